"""What `bench` makes of its rounds: known answers on made-up numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest

from depthfm_core.bench.ceiling import measure_ceilings
from depthfm_core.bench.measure import Measurement
from depthfm_core.bench.run import Results, difference
from depthfm_core.bench.summary import ensemble_peaks, middle_and_range, ratios, summarize
from depthfm_core.bench.ways import COMPUTED, WAYS


def test_ratios_compare_neighbours_in_time_and_leave_out_rounds_that_one_lacks():
    assert ratios([10.0, 30.0, 12.0], [5.0, 10.0]) == [2.0, 3.0]
    assert middle_and_range([3.0, 1.0, 2.0, 10.0]) == {"median": 2.5, "min": 1.0, "max": 10.0}


def made_up(whole, peak, work=1):
    seconds = {"load": 1.0, "encode": whole / 4, "solve": whole / 2, "decode": whole / 4, "post": 0.0, "whole": whole}
    return Measurement(seconds, dict.fromkeys(COMPUTED, work), 0, peak // 2, peak, np.ones((2, 2)))


def test_the_summary_of_made_up_numbers():
    measured = {"naive": [made_up(w, 800) for w in (8.0, 16.0, 12.0)], "float32": [made_up(w, 400) for w in (4, 4, 4)]}
    results = Results(
        flops={"case": {"encode": 2e12, "solve": 1e12, "decode": 3e12}},
        measured={"case": measured},
        errors={"case": dict.fromkeys(measured, {"relative_l2": 0.0, "max": 0.0})},
        ceilings=[{"float32": {"matmul": 1.0, "conv": 4.0}}, {"float32": {"matmul": 2.0, "conv": 4.0}}],
    )
    told = summarize(results, ("naive", "float32"))["case"]["float32"]
    assert told["ratio"] == {"median": 3.0, "min": 2.0, "max": 4.0}
    assert told["peak_ratio"] == 0.5 and told["load_peak_bytes"] == 200
    assert told["tflops"] == {"encode": 2.0, "solve": 0.5, "decode": 3.0}
    assert told["share_of_ceiling"] == {"encode": 0.5, "solve": 0.125, "decode": 0.75}


def test_no_rate_is_told_of_a_stage_that_does_other_operations_than_the_model(monkeypatch):
    monkeypatch.setitem(WAYS, "float32", replace(WAYS["float32"], counted=("encode", "solve")))
    results = Results(
        flops={"case": dict.fromkeys(COMPUTED, 10**12)},
        measured={"case": {"float32": [made_up(4.0, 100)]}},
        errors={"case": {"float32": {"relative_l2": 0.0, "max": 0.0}}},
    )
    assert set(summarize(results, ("float32",))["case"]["float32"]["tflops"]) == {"encode", "solve"}


def test_the_peak_of_a_large_ensemble_is_told_beside_that_of_a_small_one():
    measured = {"many": {"float32": [made_up(1.0, 300)]}, "few": {"float32": [made_up(1.0, 200)]}, "other": {}}
    sizes = {"many": (("64x64", 2), 10), "few": (("64x64", 2), 2), "other": (("64x64", 4), 2)}
    (told,) = ensemble_peaks(Results(measured=measured), sizes)
    assert told == {"way": "float32", "cases": ["few", "many"], "peak_bytes": [200, 300], "ratio": 1.5}


def test_the_difference_is_relative_to_the_reference():
    told = difference(np.array([[3.0, 0.0]]), np.array([[3.0, 4.0]]))
    assert told == {"relative_l2": pytest.approx(0.8), "max": 4.0}


def test_the_difference_of_answers_that_were_padded_differently_is_that_of_the_picture():
    picture = np.arange(12.0).reshape(3, 4)
    assert difference(np.pad(picture, ((2, 2), (1, 1))), picture + 1)["max"] == 1.0
    assert difference(picture, np.pad(picture, ((0, 0), (3, 3))))["max"] == 0.0


def test_the_ceilings_are_told_for_each_precision_and_kind_of_work():
    rates = measure_ceilings("cpu", 32)
    assert set(rates) == {"float32", "bfloat16"}
    assert all(set(kinds) == {"matmul", "conv", "conv_channels_last"} for kinds in rates.values())
    assert all(math.isfinite(rate) and rate > 0 for kinds in rates.values() for rate in kinds.values())
