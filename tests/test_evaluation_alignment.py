"""In which order a prediction is turned, resized and fitted, and what is fitted where nothing can be."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from depthfm_core.cli.evaluate_report import ALIGNMENT_NOTES
from depthfm_core.data import DepthSample
from depthfm_core.data.entries import Entry
from depthfm_core.depth.align import align
from depthfm_core.evaluation.baselines.method import Method
from depthfm_core.evaluation.metrics import measure
from depthfm_core.evaluation.protocol import BENCHMARKS
from depthfm_core.evaluation.run import evaluate
from depthfm_core.evaluation.spaces import to_space
from depthfm_core.evaluation.table import read_rows

SIZE = (24, 32)


def score(folder, gives, values, depth_m):
    """abs_rel, aligned in disparity, of a method that always answers with `values`."""

    def read(_entry):
        return DepthSample(torch.zeros(3, *SIZE), depth_m, torch.ones(1, *SIZE).bool())

    method = Method("stand-in", gives, lambda _image: (values, 1))
    list(evaluate(method, replace(BENCHMARKS["folder"], read=read), [Entry("a", None, None)], ["disparity"], folder))
    return float(read_rows(folder)["a"]["disparity.abs_rel"])


def test_an_image_without_any_positive_disparity_is_fitted_all_over(tmp_path):
    depth_m = 1 + torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(0))
    found = score(tmp_path, "disparity", -torch.ones(1, 1, *SIZE), depth_m)
    mean = 1 / (1 / depth_m).mean()  # all that a constant can be fitted to
    assert math.isclose(found, ((depth_m - mean).abs() / depth_m).mean(), rel_tol=1e-4)


@pytest.mark.parametrize(("ratio", "expected"), [(math.e**2, 0), (15, 0.09), (20, 0.16)])
def test_affine_costs_perfect_log_depth_what_the_report_says(ratio, expected):
    log_depth = torch.linspace(-1, 1, 1001).view(1, 1, 1, -1)
    depth_m = (log_depth * math.log(ratio) / 2).exp()
    valid = torch.ones_like(depth_m).bool()
    aligned = align(to_space(log_depth, "log_depth", "affine"), depth_m, valid, "affine")
    found = measure(aligned.clamp_min(1e-6), depth_m, valid)["abs_rel"].item()
    assert round(found, 2) == expected
    assert not expected or f"{expected:.2f}" in " ".join(ALIGNMENT_NOTES)


def test_a_prediction_is_turned_into_disparity_before_it_is_enlarged(tmp_path):
    log_depth = torch.zeros(1, 1, SIZE[0] // 2, SIZE[1] // 2)
    log_depth[..., SIZE[1] // 4 :] = 2  # an edge, across which the mean of two disparities is not that of two logs
    disparity = F.interpolate((-log_depth).exp(), SIZE, mode="bilinear", align_corners=False)
    assert score(tmp_path, "log_depth", log_depth, 1 / disparity[0]) < 1e-5
