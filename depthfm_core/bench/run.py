"""The measurements in rounds: every way once, then every way again, so that a busy minute of the machine meets all."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from tqdm import tqdm

from ..resize import fit
from ..settings import EstimationSettings
from .ceiling import measure_ceilings
from .flops import count_flops
from .machine import load_average
from .measure import Case, Measurement, Subject
from .naive import load_naive
from .processes import FreshProcesses, MeasurementError, OneProcess, cold_start


@dataclass(frozen=True)
class BenchSettings:
    """What is measured and how often.

    Attributes:
        subject: the model, and where it runs.
        ways: keys of `ways.WAYS`; the first is what the others are compared with.
        cases: sizes, steps and members.
        rounds: how often everything is measured.
        ceiling_side: of the matrices that tell the machine's ceiling.
        cold: whether the cold start is measured, too.
    """

    subject: Subject
    ways: Sequence[str]
    cases: Sequence[Case]
    rounds: int = 5
    ceiling_side: int = 4096
    cold: bool = True


@dataclass
class Results:
    """What was measured, in the order of the rounds.

    Attributes:
        flops: of each case by its name, a picture's, a velocity's and a latent's.
        measured: of each case's name and way, one a round; fewer where a way failed.
        errors: of each case's name and way, how far its first answer is from the first way's.
        failures: of each case's name and way, what went wrong.
        ceilings: TFLOP/s, one a round.
        loads: load average at the start and at the end of each round; None for both where the system has none.
        cold: seconds from the start of Python to the written depth, one a round; empty when it was not asked for.
        cold_failure: what went wrong with it; empty when nothing did.
    """

    flops: dict[str, dict[str, int]] = field(default_factory=dict)
    measured: dict[str, dict[str, list[Measurement]]] = field(default_factory=dict)
    errors: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    ceilings: list[dict[str, dict[str, float]]] = field(default_factory=list)
    loads: list[tuple[float | None, float | None]] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    cold_failure: str = ""

    @property
    def failed(self) -> bool:
        """Whether anything went wrong."""
        return bool(self.cold_failure) or any(self.failures.values())


def run_bench(settings: BenchSettings, after_round: Callable[[Results], None]) -> Results:
    """Measures everything; what fails, a way or the cold start, is noted and left out from then on.

    Args:
        settings: what.
        after_round: given what there is so far, so that a long run that ends early leaves something.

    Raises:
        ValueError: for a model that cannot be used, before anything is measured.
    """
    subject = settings.subject
    if subject.threads:
        torch.set_num_threads(subject.threads)
    results = Results(flops={case.name: _flops(subject, case) for case in settings.cases})
    for table in (results.measured, results.errors, results.failures):
        table.update({case.name: {} for case in settings.cases})
    processes = FreshProcesses(subject) if subject.alone else OneProcess(subject)
    jobs = [*product(settings.cases, settings.ways)]
    with tqdm(total=settings.rounds * (len(jobs) + 1 + settings.cold), unit="run", disable=None) as bar:
        for _ in range(settings.rounds):
            load_at_start = load_average()
            for case, way in jobs:
                bar.set_description(f"{way}, {case.name}")
                _measure(processes, way, case, results)
                bar.update()
            bar.set_description("ceilings")
            results.ceilings.append(measure_ceilings(subject.device, settings.ceiling_side))
            bar.update()
            if settings.cold:
                bar.set_description("cold start")
                _measure_cold_start(subject, results)
                bar.update()
            results.loads.append((load_at_start, load_average()))
            after_round(results)
    return results


def difference(log_depth: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """How far an answer is from another: "relative_l2", |a - b| / |b|, and "max", the largest |a - b|, in log depth.

    Args:
        log_depth, reference: [h, w] of one picture. Where one was padded to more pixels than the other, which is done
            on both sides alike, the middle is compared.
    """
    size = np.minimum(log_depth.shape, reference.shape)
    log_depth, reference = _middle(log_depth, size), _middle(reference, size)
    error = log_depth - reference
    return {
        "relative_l2": float(np.linalg.norm(error) / max(np.linalg.norm(reference), 1e-12)),
        "max": float(np.abs(error).max()),
    }


def _middle(values: np.ndarray, size: np.ndarray) -> np.ndarray:
    top, left = (np.array(values.shape) - size) // 2
    return values[top : top + size[0], left : left + size[1]]


def _measure(processes: FreshProcesses | OneProcess, way: str, case: Case, results: Results) -> None:
    measured, failures = results.measured[case.name], results.failures[case.name]
    if way in failures:
        return
    try:
        measurement = processes.measure(way, case)
    except MeasurementError as error:
        failures[way] = str(error)
        tqdm.write(f"{way}, {case.name}: {error}", file=sys.stderr)
        return
    measured.setdefault(way, []).append(measurement)
    reference = next(iter(measured.values()))[0].log_depth
    results.errors[case.name].setdefault(way, difference(measurement.log_depth, reference))


def _measure_cold_start(subject: Subject, results: Results) -> None:
    if results.cold_failure:
        return
    try:
        results.cold.append(cold_start(subject))
    except MeasurementError as error:
        results.cold_failure = str(error)
        tqdm.write(f"cold start: {error}", file=sys.stderr)


def _flops(subject: Subject, case: Case) -> dict[str, int]:
    pipeline = load_naive(subject.files.model, subject.files.vae)
    settings = EstimationSettings(processing_resolution=case.processing_resolution)
    fitted, _ = fit(case.image(), settings.resolution(pipeline.processing_resolution), pipeline.multiple)
    return count_flops(pipeline, *fitted.shape[-2:])
