"""The ablations' tables, beside the paper's numbers and with what became of its claims, as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev

from ...replacing import write_text
from .arms import CALLS, EXPERIMENTS, AblationSettings, Claim, Experiment
from .data import DOMAINS
from .plot import write_plot
from .results import Results, judge, leads, read_results, values_of

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
PLOT_NAME, TABLE_NAME, CSV_NAME = "ablations.png", "ablations.md", "ablations.csv"


def write_report(settings: AblationSettings, experiments: Sequence[str], output: Path) -> str:
    """Writes tables and plot of finished experiments into `output`; returns the Markdown.

    Raises:
        ImportError: when matplotlib is missing.
    """
    chosen = [EXPERIMENTS[name] for name in experiments]
    results = read_results(settings, chosen, output)
    tables = [_table(experiment, results) for experiment in chosen]
    markdown = "\n\n".join([_budget(settings), f"![What each arm reaches]({PLOT_NAME})", *tables])
    write_text(output / TABLE_NAME, markdown + "\n")
    write_text(output / CSV_NAME, _csv(results))
    write_plot(chosen, results, output / PLOT_NAME)
    return markdown


def _budget(settings: AblationSettings) -> str:
    return (
        f"Seeds: {settings.seeds}; mean {PLUS_MINUS} standard deviation. Each arm: {settings.num_steps} steps of "
        f"{settings.batch_size} on {settings.frames} rendered scenes of {settings.width_px} x {settings.height_px} "
        f"pixels; the image prior {settings.prior_steps} steps, the teacher {settings.teacher_steps}. Measured on "
        f"{settings.held_out} other scenes, as rendered and as photographs (other colors, noise, blur, compression), "
        "one member, aligned by least squares in the space that was learned."
    )


def _table(experiment: Experiment, results: Results) -> str:
    unit = "delta1 in %" if experiment.metric == "delta1" else "AbsRel"
    head = ["", *(f"{domain}, {_calls(calls)}" for domain in DOMAINS for calls in CALLS), "paper, NYU"]
    rows = [
        [label, *_cells(experiment, results, arm), _published(experiment, arm)]
        for arm, label in experiment.arms.items()
    ]
    title = f"### {experiment.title}\n\n{unit}; the paper's {experiment.source}."
    claims = "\n".join(_claim(claim, experiment, results) for claim in experiment.claims)
    return "\n\n".join([title, _markdown([head, *rows]), claims])


def _cells(experiment: Experiment, results: Results, arm: str) -> list[str]:
    metric = experiment.metric
    return [_spread(values_of(results, arm, d, calls, metric), metric) for d in DOMAINS for calls in CALLS]


def _published(experiment: Experiment, arm: str) -> str:
    given = {calls: value for (name, calls), value in experiment.published.items() if name == arm}
    several = len({calls for _, calls in experiment.published}) > 1
    texts = (f"{value} ({_calls(calls)})" if several else f"{value}" for calls, value in given.items())
    return ", ".join(texts) or "-"


def _claim(claim: Claim, experiment: Experiment, results: Results) -> str:
    better, worse = (experiment.arms[arm] for arm in (claim.better, claim.worse))
    found = []
    for domain in DOMAINS:
        by_seed = leads(claim, experiment, results, domain)
        found.append(f"{judge(by_seed)} on {domain} pictures ({_spread(by_seed, experiment.metric, '+')})")
    return f"- Paper: {better} before {worse}, {_calls(claim.calls)}. Here it {' and '.join(found)}."


def _calls(calls: int) -> str:
    return f"{calls} call" + ("s" if calls > 1 else "")


def _spread(values: Sequence[float], metric: str, sign: str = "") -> str:
    digits = 1 if metric == "delta1" else 3
    around = f" {PLUS_MINUS} {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):{sign}.{digits}f}{around}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


def _csv(results: Results) -> str:
    """One line for each arm, seed, domain and number of calls."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "seed", "pictures", "calls", "delta1", "abs_rel"])
    writer.writerows(_csv_rows(results))
    return text.getvalue()


def _csv_rows(results: Results) -> Iterator[list]:
    for arm, seeds in results.items():
        for seed, scores in enumerate(seeds):
            for domain, by_calls in scores.items():
                for calls, values in by_calls.items():
                    yield [arm, seed, domain, calls, values["delta1"], values["abs_rel"]]
