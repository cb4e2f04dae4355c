"""`table`: the reports of `evaluate` on several data sets as one table, the published rows below it."""

import argparse
from pathlib import Path

from ..evaluation.joined import read_reports, write_joined


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reports", nargs="+", type=Path, metavar="DIR", help="folders that `evaluate --output` wrote")
    parser.add_argument(
        "--output", type=Path, default=Path("table"), metavar="DIR", help="for table.md and table.csv (default: table)"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the table and prints it; 0.

    Raises:
        ValueError: for a folder without a report, or two reports on one data set that cannot stand in one column.
    """
    print(write_joined(read_reports(args.reports), args.output))
    return 0
