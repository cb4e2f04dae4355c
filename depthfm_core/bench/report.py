"""What was measured as JSON and as a table to read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from .machine import describe_machine
from .run import BenchSettings, Results
from .stages import STAGES
from .summary import ceiling_medians, ensemble_peaks, middle_and_range, summarize
from .ways import COMPUTED

_GIGABYTE = 1e9
_SECONDS = ("read", "load", "first", *STAGES, "whole")


def report(settings: BenchSettings, results: Results) -> dict:
    """Everything, in plain values.

    Returns:
        "machine", "settings", "flops", "ceilings" ("rounds" and "median" in TFLOP/s), "loads" (load average at the
        start and the end of each round), "cold" (seconds), "summary" (case and way to what `summary` tells),
        "ensemble_peaks", "rounds" (case and way to what each gave), "failures", "cold_failure".
    """
    sizes = {case.name: ((case.size, case.steps), case.members) for case in settings.cases}
    return {
        "machine": describe_machine(settings.subject.device, settings.subject.threads),
        "settings": _plain(settings),
        "flops": results.flops,
        "ceilings": {"rounds": results.ceilings, "median": ceiling_medians(results.ceilings)},
        "loads": results.loads,
        "cold": middle_and_range(results.cold) | {"rounds": results.cold} if results.cold else None,
        "summary": summarize(results, settings.ways),
        "ensemble_peaks": ensemble_peaks(results, sizes),
        "rounds": {
            case: {way: [_plain_measurement(m) for m in rounds] for way, rounds in measured.items()}
            for case, measured in results.measured.items()
        },
        "failures": results.failures,
        "cold_failure": results.cold_failure,
    }


def table(content: Mapping) -> str:
    """A report's numbers to read: a table of times and one of rates for each case, then what concerns the machine."""
    parts = [_machine_lines(content)]
    for case, ways in content["summary"].items():
        if ways:
            parts += [_times(case, ways), _rates(ways)]
    parts.append(_closing_lines(content))
    return "\n\n".join(part for part in parts if part)


def _times(case: str, ways: Mapping[str, Mapping]) -> str:
    first = next(iter(ways))
    shown = [name for name in _SECONDS if any(name in told["seconds"] for told in ways.values())]
    head = ["way", *shown, f"{first} / way", "(min-max)", "peak GB", f"of {first}", "load GB", "rel. L2", "max"]
    rows = [
        [
            way,
            *(_number(told["seconds"].get(name, {}).get("median")) for name in shown),
            f"{told['ratio']['median']:.2f}",
            f"({told['ratio']['min']:.2f}-{told['ratio']['max']:.2f})",
            _gigabytes(told["peak_bytes"]),
            "" if told["peak_ratio"] is None else f"{told['peak_ratio']:.2f}",
            _gigabytes(told["load_peak_bytes"]),
            f"{told['difference']['relative_l2']:.1e}",
            f"{told['difference']['max']:.1e}",
        ]
        for way, told in ways.items()
    ]
    return f"{case}: seconds (medians), memory, and log depth's difference from {first}\n{_aligned([head, *rows])}"


def _rates(ways: Mapping[str, Mapping]) -> str:
    rows = [
        [way, *(_rate(told["tflops"].get(stage), told["share_of_ceiling"].get(stage)) for stage in COMPUTED)]
        for way, told in ways.items()
    ]
    title = "TFLOP/s, as if every way did the naive way's operations, and of the ceiling in the way's precision"
    return f"{title}\n{_aligned([['way', *COMPUTED], *rows])}"


def _machine_lines(content: Mapping) -> str:
    machine = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; {versions}"]
    if "gpu" in machine:
        lines.append(f"{machine['gpu']}, CUDA {machine['cuda']}")
    lines += _busy_lines(machine, content["loads"])
    for precision, rates in content["ceilings"]["median"].items():
        lines.append(
            f"ceiling, {precision}: " + ", ".join(f"{kind} {rate:.2f} TFLOP/s" for kind, rate in rates.items())
        )
    return "\n".join(lines)


def _busy_lines(machine: Mapping, loads: Sequence[Sequence[float | None]]) -> list[str]:
    """A line where more threads ran than there are cores, and than the measurement has itself."""
    highest = max((load for round_ in loads for load in round_ if load is not None), default=0.0)
    if highest < max(machine["system_cores"], machine["threads"]) + 0.5:
        return []
    return [
        f"load average up to {highest:.1f} on {machine['system_cores']} cores: other processes ran at the same time, "
        "which changes times and ratios; measure again without them"
    ]


def _closing_lines(content: Mapping) -> str:
    lines = []
    if content["cold"]:
        cold = content["cold"]
        lines.append(f"cold start of predict: {cold['median']:.2f} s ({cold['min']:.2f}-{cold['max']:.2f})")
    if content["cold_failure"]:
        lines.append(f"cold start of predict, failed: {content['cold_failure']}")
    for peak in content["ensemble_peaks"]:
        few, many = peak["cases"]
        lines.append(f"{peak['way']}: peak of {many!r} is {peak['ratio']:.2f} times that of {few!r}")
    for case, failures in content["failures"].items():
        lines += [f"{way}, {case}, failed: {text}" for way, text in failures.items()]
    return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, the first one to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def _number(seconds: float | None) -> str:
    """Three digits or so, whatever the size."""
    if seconds is None:
        return ""
    return f"{seconds:.1f}" if seconds >= 100 else f"{seconds:.2f}" if seconds >= 1 else f"{seconds:.4f}"


def _gigabytes(count: int | None) -> str:
    return "" if count is None else f"{count / _GIGABYTE:.2f}"


def _rate(tflops: float | None, share: float | None) -> str:
    if tflops is None:
        return ""
    return f"{tflops:.3g}" if share is None else f"{tflops:.3g} ({share:.0%})"


def _plain(settings: BenchSettings) -> dict:
    return json.loads(json.dumps(asdict(settings), default=str))


def _plain_measurement(measurement: object) -> dict:
    values = asdict(measurement)
    del values["log_depth"]
    return values
