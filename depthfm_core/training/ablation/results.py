"""The scores of finished arms over their seeds, and what they say about the paper's claims."""

from collections.abc import Sequence
from pathlib import Path

from .arms import AblationSettings, Claim, Experiment
from .scores import Scores, read_scores, scores_path

Results = dict[str, list[Scores]]  # arm -> its scores with each seed


def read_results(settings: AblationSettings, experiments: Sequence[Experiment], output: Path) -> Results:
    """The scores of all arms of some experiments."""
    names = dict.fromkeys(arm for experiment in experiments for arm in experiment.arms)
    return {arm: [read_scores(scores_path(output, arm, seed)) for seed in range(settings.seeds)] for arm in names}


def values_of(results: Results, arm: str, domain: str, calls: int, metric: str) -> list[float]:
    """What an arm reached with each seed; delta1 in percent."""
    factor = 100 if metric == "delta1" else 1
    return [factor * scores[domain][str(calls)][metric] for scores in results[arm]]


def leads(claim: Claim, experiment: Experiment, results: Results, domain: str) -> list[float]:
    """By how much the arm that should be better is better, with each seed, in the experiment's metric."""
    sign = 1 if experiment.metric == "delta1" else -1
    better = values_of(results, claim.better, domain, claim.calls, experiment.metric)
    worse = values_of(results, claim.worse, domain, claim.calls, experiment.metric)
    return [sign * (a - b) for a, b in zip(better, worse, strict=True)]


def judge(leads_of_seeds: Sequence[float]) -> str:
    """What became of a claim: "holds" or "fails" where all seeds say so, else "is open".

    With three seeds there is no finer statistic to trust.
    """
    return "holds" if min(leads_of_seeds) > 0 else "fails" if max(leads_of_seeds) < 0 else "is open"
