import numpy as np
import pytest
import torch

from depthfm_core.depth.align import ALIGNMENTS, align
from depthfm_core.evaluation.metrics import METRICS, measure

# The published formulas once more, in NumPy, of the valid pixels of one image.
FORMULAS = {
    "abs_rel": lambda p, g: np.mean(np.abs(p - g) / g),
    "sq_rel": lambda p, g: np.mean((p - g) ** 2 / g),
    "rmse": lambda p, g: np.sqrt(np.mean((p - g) ** 2)),
    "rmse_log": lambda p, g: np.sqrt(np.mean((np.log(p) - np.log(g)) ** 2)),
    "log10": lambda p, g: np.mean(np.abs(np.log10(p) - np.log10(g))),
    "si_log": lambda p, g: (
        100 * np.sqrt(np.mean((np.log(p) - np.log(g)) ** 2) - np.sum(np.log(p) - np.log(g)) ** 2 / p.size**2)
    ),
    "delta1": lambda p, g: np.mean(np.maximum(p / g, g / p) < 1.25),
    "delta2": lambda p, g: np.mean(np.maximum(p / g, g / p) < 1.25**2),
    "delta3": lambda p, g: np.mean(np.maximum(p / g, g / p) < 1.25**3),
}
PERFECT = {name: float(name.startswith("delta")) for name in METRICS}

# Three pixels, worked out by hand: p / g is 2, 1 and 1 / 4; logarithms to base 2 are 1, 0 and -2.
PRED, TARGET = [2.0, 5.0, 1.0], [1.0, 5.0, 4.0]
BY_HAND = {
    "abs_rel": (1 + 0 + 3 / 4) / 3,
    "sq_rel": (1 + 0 + 9 / 4) / 3,
    "rmse": (10 / 3) ** 0.5,
    "rmse_log": np.log(2) * (5 / 3) ** 0.5,
    "log10": np.log10(2) * 1,
    "si_log": 100 * np.log(2) * (5 / 3 - 1 / 9) ** 0.5,
    "delta1": 1 / 3,
    "delta2": 1 / 3,
    "delta3": 1 / 3,
}


def maps(seed=0, batch=3, height=13, width=17, noise=0.4):
    """Depth of 0.1 to 100 m, a prediction that is off by noise in log depth, and a mask without about a third."""
    rng = np.random.default_rng(seed)
    target = 10 ** rng.uniform(-1, 2, (batch, 1, height, width))
    pred = target * np.exp(noise * rng.standard_normal(target.shape) + 0.1)
    valid = rng.random(target.shape) < 0.7
    return torch.from_numpy(pred), torch.from_numpy(target), torch.from_numpy(valid)


def row(values):
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_equals_its_published_formula(name, seed):
    pred, target, valid = maps(seed)
    expected = [FORMULAS[name](p[v], g[v]) for p, g, v in zip(pred.numpy(), target.numpy(), valid.numpy(), strict=True)]
    found = measure(pred, target, valid)[name]
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_of_three_pixels_is_what_one_finds_by_hand(name):
    everywhere = torch.ones(1, 1, 1, 3, dtype=torch.bool)
    assert measure(row(PRED), row(TARGET), everywhere)[name].item() == pytest.approx(BY_HAND[name], rel=1e-12)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_a_ratio_of_exactly_the_threshold_is_not_within_it_on_either_side(power):
    bound = 1.25**power
    pred, target = row([bound, 1.0, bound - 1e-9, 1.0, 1.0]), row([1.0, bound, 1.0, bound - 1e-9, 1.0])
    share = measure(pred, target, torch.ones_like(pred, dtype=torch.bool))[f"delta{power}"]
    assert share.item() == pytest.approx(3 / 5)


def test_measure_gives_each_metric_by_its_name():
    pred, target, valid = maps()
    together = measure(pred, target, valid)
    assert list(together) == list(METRICS) == list(FORMULAS)
    assert all(found.shape == (3,) and found.dtype == torch.float64 for found in together.values())


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -1.0, 0.0])
def test_pixels_that_are_not_valid_have_no_influence(broken):
    pred, target, valid = maps()
    found = measure(pred.where(valid, broken), target.where(valid, broken), valid)
    for name, expected in measure(pred, target, valid).items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=0)


def test_an_image_without_valid_pixels_is_nan_and_its_neighbors_are_not():
    pred, target, valid = maps()
    expected = measure(pred, target, valid)
    valid[1] = False
    for name, found in measure(pred, target, valid).items():
        assert found.isnan().tolist() == [False, True, False]
        torch.testing.assert_close(found[[0, 2]], expected[name][[0, 2]], rtol=0, atol=0)


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_prediction_scores_0_or_1(name):
    _, target, valid = maps()
    torch.testing.assert_close(measure(target, target, valid)[name], torch.full((3,), PERFECT[name]).double())


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_prediction_that_the_alignment_can_make_perfect_scores_0_or_1(alignment):
    _, target, valid = maps()
    prediction = {
        "affine": 0.3 * target + 0.5,
        "log": 0.3 * target.log() + 0.5,
        "disparity": 0.3 / target + 0.5,
        "scale": 0.3 * target,
    }[alignment]
    for name, found in measure(align(prediction, target, valid, alignment, dtype=torch.float64), target, valid).items():
        np.testing.assert_allclose(found.numpy(), PERFECT[name], atol=1e-9)


def test_si_log_ignores_scale_and_the_other_metrics_do_not():
    pred, target, valid = maps()
    before, after = measure(pred, target, valid), measure(pred * 3, target, valid)
    unchanged = {name for name in METRICS if torch.allclose(before[name], after[name], rtol=1e-9)}
    assert unchanged == {"si_log"}


def test_single_precision_input_is_measured_in_double():
    pred, target, valid = (m[:1] for m in maps(height=400, width=500))
    pred, target = pred.float(), target.float()
    expected = FORMULAS["rmse"](pred[valid].double().numpy(), target[valid].double().numpy())
    assert measure(pred, target, valid)["rmse"].item() == pytest.approx(expected, rel=1e-12)


def test_depth_that_cannot_be_measured_is_an_error():
    pred, target, valid = maps()
    for value in (0.0, -1.0):
        with pytest.raises(ValueError, match="pred must be positive where valid; clip the aligned depth"):
            measure(pred.where(~valid, value), target, valid)
    with pytest.raises(ValueError, match="NaN or infinite"):
        measure(pred.where(~valid, torch.nan), target, valid)
    with pytest.raises(ValueError, match="target_depth_m must be positive"):
        measure(pred, target.where(~valid, 0.0), valid)
    with pytest.raises(ValueError, match="must have one shape"):
        measure(pred[:1], target, valid)
