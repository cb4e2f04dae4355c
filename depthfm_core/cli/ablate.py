"""`ablate`: the paper's ablations, small, as one table and one plot beside the paper's numbers."""

import argparse
from dataclasses import fields
from pathlib import Path

from ..training.ablation.arms import EXPERIMENTS, AblationSettings
from . import import_networks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for everything; resumes")
    parser.add_argument(
        "--only", nargs="+", choices=tuple(EXPERIMENTS), default=list(EXPERIMENTS), help="these experiments alone"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="trainings at a time, from 2 on with one thread each (default: 1, with all)",
    )
    for field in fields(AblationSettings):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default, help=f"default: {field.default}")


def run(args: argparse.Namespace) -> int:
    """Runs what is missing, writes table and plot, prints the table and returns 0."""
    import_networks(args)
    from ..training.ablation.report import write_report
    from ..training.ablation.run import run_ablation

    settings = AblationSettings(**{field.name: getattr(args, field.name) for field in fields(AblationSettings)})
    run_ablation(settings, args.only, args.output, args.workers)
    print(write_report(settings, args.only, args.output))
    return 0
