"""Medians and spreads of what the rounds gave, ratios to the first way, and how near each stage is to the ceiling."""

from collections.abc import Mapping, Sequence
from statistics import median

from .ceiling import highest
from .measure import Measurement
from .run import Results
from .ways import WAYS


def middle_and_range(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def ratios(reference: Sequence[float], values: Sequence[float]) -> list[float]:
    """reference / value of each round, above 1 where the value is smaller; rounds that one of them lacks are left out.

    Neighbours in time are compared with each other, so that a slow minute of the machine cancels.
    """
    return [ours / theirs for ours, theirs in zip(reference, values, strict=False)]


def summarize(results: Results, ways: Sequence[str]) -> dict[str, dict[str, dict]]:
    """Case, way -> what `_summarize_way` tells; ways that failed before their first round are left out."""
    rates = ceiling_medians(results.ceilings)
    return {
        case: {way: _summarize_way(way, measured, results, case, rates) for way in ways if measured.get(way)}
        for case, measured in results.measured.items()
    }


def ceiling_medians(ceilings: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Precision, kind of work -> the rounds' median TFLOP/s."""
    return {
        precision: {kind: median(round_[precision][kind] for round_ in ceilings) for kind in kinds}
        for precision, kinds in (ceilings[0] if ceilings else {}).items()
    }


def ensemble_peaks(results: Results, sizes: Mapping[str, tuple[object, int]]) -> list[dict]:
    """The peak of the largest ensemble beside that of the smallest, of each way at the same size and steps.

    Args:
        results: of the run.
        sizes: each case's name -> (what the cases that are compared have in common, members).
    """
    found = []
    for shared in dict.fromkeys(same for same, _ in sizes.values()):
        names = sorted((name for name, (same, _) in sizes.items() if same == shared), key=lambda name: sizes[name][1])
        few, many = names[0], names[-1]
        for way in results.measured[few] if few != many else ():
            peaks = [_peak(results.measured[name].get(way, ())) for name in (few, many)]
            if all(peaks):
                found.append({"way": way, "cases": [few, many], "peak_bytes": peaks, "ratio": peaks[1] / peaks[0]})
    return found


def _summarize_way(
    way: str, measured: Mapping[str, Sequence[Measurement]], results: Results, case: str, rates: Mapping
) -> dict:
    """Seconds and ratios with their spread, memory, difference from the first way, TFLOP/s and share of the ceiling."""
    own, first = measured[way], next(iter(measured.values()))
    seconds = {name: middle_and_range([m.seconds[name] for m in own]) for name in own[0].seconds}
    tflops = {
        stage: results.flops[case][stage] * own[0].work[stage] / seconds[stage]["median"] / 1e12
        for stage in WAYS[way].counted
        if seconds[stage]["median"]
    }
    ceiling = rates.get(WAYS[way].precision)
    peak, reference_peak = _peak(own), _peak(first)
    return {
        "seconds": seconds,
        "ratio": middle_and_range(ratios([m.seconds["whole"] for m in first], [m.seconds["whole"] for m in own])),
        "work": own[0].work,
        "tflops": tflops,
        "share_of_ceiling": {stage: rate / highest(ceiling) for stage, rate in tflops.items()} if ceiling else {},
        "difference": results.errors[case][way],
        "peak_bytes": peak,
        "peak_ratio": peak / reference_peak if peak and reference_peak else None,
        "load_peak_bytes": _middle([m.load_peak_bytes for m in own]),
    }


def _peak(measured: Sequence[Measurement]) -> int | None:
    return _middle([m.peak_bytes for m in measured])


def _middle(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return round(median(known)) if known else None
