"""`evaluate`: scores of one or more methods on a data set, under the protocol that published numbers were made with."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from .. import __version__
from ..data.entries import Entry
from ..data.kitti import MASKS
from ..depth.align import ALIGNMENTS
from ..evaluation.baselines import METHODS, MethodOptions, load_method, weights_fingerprint
from ..evaluation.pictures import keep_only, picture_path
from ..evaluation.protocol import BENCHMARKS, Benchmark, choose_benchmark
from ..evaluation.report import Report, build_tables, write_report
from ..evaluation.run import Share, evaluate, worst_names
from ..evaluation.spaces import SPACES
from ..evaluation.summary import Summary, summarize
from ..evaluation.table import open_folder, read_rows
from .arguments import add_estimation_arguments, add_model_arguments, best_device, estimation_settings

DEFAULT_MODELS = ("nano", "constant", "ramp")
BASELINE_OPTIONS = ("num_steps_baseline", "domain", "focal_px")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", required=True, metavar="NAME", help=f"{', '.join(BENCHMARKS)}, or the path of a folder of pairs"
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="where the data set lies (docs/benchmarks.md)")
    parser.add_argument("--split", type=Path, metavar="LIST", help="file list of the split, where one is needed")
    parser.add_argument(
        "--align",
        nargs="+",
        choices=tuple(ALIGNMENTS),
        metavar="HOW",
        help=f"one or more of {', '.join(ALIGNMENTS)} (default: all of affine and log that suit every method)",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for tables, report and pictures")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--worst", type=int, default=8, metavar="N", help="pictures of the largest errors (default: 8)")
    parser.add_argument("--kitti-mask", choices=tuple(MASKS), help="mask within KITTI's crop (default: eigen)")
    parser.add_argument("--diode-gradient-filter", action="store_true", help="leave out DIODE's depth edges")
    parser.add_argument("--baseline-steps", type=int, metavar="N", help="denoising steps of a diffusion baseline")
    parser.add_argument("--baseline-ensemble", type=int, metavar="E", help="ensemble of a diffusion baseline")
    parser.add_argument("--domain", choices=("indoor", "outdoor", "object"), help="what GeoWizard is told")
    parser.add_argument("--focal-px", type=float, metavar="F", help="focal length that Metric3D is told")
    add_model_arguments(parser, models=METHODS)
    add_estimation_arguments(parser)
