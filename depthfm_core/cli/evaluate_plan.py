"""What `evaluate` is asked to measure: each method with its options, alignments, weights and folder."""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

from ..data import pairs
from ..data.entries import Entry
from ..evaluation.baselines import METHODS, MethodCard, MethodOptions, find_method
from ..evaluation.pictures import unique_name
from ..evaluation.protocol import BENCHMARKS, Benchmark
from ..evaluation.run import columns
from ..evaluation.spaces import SPACES, check_alignments
from ..evaluation.table import SETTINGS_FILE, check_columns, is_run, read_rows, read_settings
from ..model.fingerprint import fingerprint
from ..settings import EstimationSettings
from .errors import sentence
from .methods import check_method_arguments, files_beside, method_options

DEFAULT_ALIGNMENTS = ("affine", "log")


@dataclass(frozen=True)
class Plan:
    """How one method is measured.

    Attributes:
        model: as `find_method` takes it.
        options: what of the command line it takes.
        alignments: what is fitted.
        folder: of its results.
    """

    model: str
    options: MethodOptions
    alignments: tuple[str, ...]
    folder: Path

    @cached_property
    def card(self) -> MethodCard:
        """Of the method; a name that is none is a DepthFM checkpoint's path, which need not be there any more."""
        return METHODS.get(self.model.partition("=")[0], METHODS["depthfm"])

    @cached_property
    def weights(self) -> str:
        """Their `fingerprint`, which may take reading gigabytes: once, and in the first process alone."""
        return fingerprint(find_method(self.model)[2])

    @cached_property
    def beside(self) -> dict[str, dict[str, str]]:
        """See `files_beside`; read once too."""
        return files_beside(self.model, self.options)

    def domain_of(self, benchmark: Benchmark) -> Callable[[Entry], str] | None:
        """What tells a method that asks the kind of each scene; None for other methods, and where the user tells it."""
        asks = "domain" in self.card.options and self.options.domain is None
        return benchmark.domain if asks else None

    def is_done(self, entries: Sequence[Entry]) -> bool:
        """Whether every image has a line in the table."""
        done = read_rows(self.folder)
        return all(entry.name in done for entry in entries)


def make_plans(args: argparse.Namespace, benchmark: Benchmark) -> list[Plan]:
    """One a method; a benchmark's picture comes at its protocol's size already, so none resizes it again.

    Raises:
        ValueError: for an option that none of the methods takes, or an alignment that one cannot be fitted by.
    """
    taken = check_method_arguments(args.model, args)
    size = 0 if benchmark.num_images else None
    plans = [
        Plan(model, method_options(args, taken[model], size), _alignments(model, args), _folder(args, model))
        for model in args.model
    ]
    for plan in plans:
        if "=" not in plan.model:  # the weights at a path may give something else than the method's usual ones
            check_alignments(plan.card.gives, plan.alignments, plan.model)
    return plans


def settings_of(plan: Plan, args: argparse.Namespace, benchmark: Benchmark, root: Path) -> dict:
    """What a table of images depends on: a run goes on only with the same."""
    return {
        "model": plan.model,
        "weights": plan.weights,
        **plan.beside,
        **_measured_on(args, benchmark, root),
        "alignments": list(plan.alignments),
        "options": {name: value for name, value in asdict(plan.options).items() if value is not None},
        **({"domain": "of the data set"} if plan.domain_of(benchmark) else {}),
    }


def find_neighbors(
    args: argparse.Namespace, benchmark: Benchmark, root: Path, plans: Sequence[Plan], entries: Sequence[Entry]
) -> list[Plan]:
    """What earlier runs measured whole into the same output, on the same images by the same protocol, by name.

    Nothing of them is loaded or run again, so their weights and options are those of that time. What cannot be read, or
    is of an earlier version with other columns, is told and left out.
    """
    asked, wanted = {plan.folder for plan in plans}, _measured_on(args, benchmark, root)
    found = []
    for folder in sorted({path.parent for path in args.output.glob("*/images*.csv")} - asked):
        try:
            plan = _neighbor(folder, wanted)
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # of JSON that holds anything
            damaged = f"its {SETTINGS_FILE} is damaged; remove the folder."
            reason = sentence(error) if isinstance(error, ValueError) else damaged
            print(f"depthfm: {folder} is left out of the report: {reason}", file=sys.stderr)
        else:
            found += [plan] if plan else []
    return [plan for plan in found if plan.is_done(entries)]


def _neighbor(folder: Path, wanted: Mapping[str, object]) -> Plan | None:
    """The plan of an earlier run; None for one whose settings are not the wanted ones."""
    settings = read_settings(folder) if is_run(folder) else {}
    if not wanted.items() <= settings.items():
        return None
    plan = Plan(settings["model"], _options(settings["options"]), tuple(settings["alignments"]), folder)
    check_columns(folder, columns(plan.alignments))
    return plan


def _measured_on(args: argparse.Namespace, benchmark: Benchmark, root: Path) -> dict[str, object]:
    """The settings that methods must share to stand in one report."""
    return {
        "dataset": data_set_name(args, root),
        "root": str(root.resolve()),
        "split": args.split and str(args.split.resolve()),
        "protocol": benchmark.notes,
        "ransac": args.ransac,
    }


def data_set_name(args: argparse.Namespace, root: Path) -> str:
    """The benchmark's, or that of the folder which is the data set itself."""
    return args.dataset if args.dataset in BENCHMARKS and args.dataset != pairs.NAME else root.resolve().name


def _options(kept: Mapping[str, object]) -> MethodOptions:
    """The options as a run's settings keep them; of an option that is gone since, nothing can be said."""
    known = {field.name: kept[field.name] for field in fields(MethodOptions) if field.name in kept}
    if "settings" in known:
        values = known["settings"]
        names = [field.name for field in fields(EstimationSettings) if field.name in values]
        known["settings"] = EstimationSettings(**{name: values[name] for name in names})
    return MethodOptions(**known)


def _alignments(model: str, args: argparse.Namespace) -> tuple[str, ...]:
    """The chosen alignments, or those of the default that a method's numbers can be fitted by, or the first that is."""
    possible = SPACES[find_method(model)[1].gives]
    if args.align:
        return tuple(dict.fromkeys(args.align))
    return tuple(name for name in DEFAULT_ALIGNMENTS if name in possible) or tuple(possible)[:1]


def _folder(args: argparse.Namespace, model: str) -> Path:
    """Where a model's results lie; a name that is no folder's gets one, and no two get the same."""
    is_a_name = re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", model)
    return args.output / (model if is_a_name else unique_name(model).lstrip("._"))
