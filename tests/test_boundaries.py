import numpy as np
import pytest
import torch

from depthfm_core.evaluation.boundaries import boundary_scores

NAMES = ["boundary_precision", "boundary_recall", "boundary_f1"]
THRESHOLDS = [1.05 + 0.2 * i / 9 for i in range(10)]
ALL_SIDES = [[2.0, 2.0, 2.0], [2.0, 1.0, 2.0], [2.0, 2.0, 2.0]]  # a near pixel: one boundary of each direction


def scene(seed=0, batch=2, height=12, width=15, share=0.8):
    """Blocks of 3 x 3 pixels with some relief, a prediction near it, and a mask."""
    rng = np.random.default_rng(seed)
    blocks = rng.uniform(1, 1.6, (batch, 1, height // 3, width // 3)).repeat(3, 2).repeat(3, 3)
    target = blocks * rng.uniform(0.97, 1.03, blocks.shape)
    pred = target * rng.uniform(0.93, 1.07, blocks.shape)
    valid = rng.random(target.shape) < share
    return torch.from_numpy(pred), torch.from_numpy(target), torch.from_numpy(valid)


def whole(rows):
    """A map of one image and a mask that is True everywhere."""
    depth = torch.tensor(rows, dtype=torch.float64)[None, None]
    return depth, torch.ones_like(depth, dtype=torch.bool)


def scores(pred, target):
    found = boundary_scores(whole(pred)[0], *whole(target))
    return [found[name].item() for name in NAMES]


def by_loops(pred, target, valid):
    """Precision, recall and F1 of one image [H, W], pixel by pixel."""
    height, width = target.shape
    sums, total = np.zeros(3), 0.0
    for t in THRESHOLDS:
        precision = recall = 0.0
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            found = true = both = 0
            for y in range(height):
                for x in range(width):
                    v, u = y + dy, x + dx
                    if not (0 <= v < height and 0 <= u < width and valid[y, x] and valid[v, u]):
                        continue
                    p, g = pred[v, u] / pred[y, x] > t, target[v, u] / target[y, x] > t
                    found, true, both = found + p, true + g, both + (p and g)
            precision += both / max(found, 1) / 4
            recall += both / max(true, 1) / 4
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        sums += np.array([precision, recall, f1]) * t
        total += t
    return sums / total


@pytest.mark.parametrize("share", [0.8, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_the_scores_equal_the_published_formula_pixel_by_pixel(seed, share):
    pred, target, valid = scene(seed, share=share)
    found = boundary_scores(pred, target, valid)
    assert list(found) == NAMES
    for i in range(len(pred)):
        expected = by_loops(pred[i, 0].numpy(), target[i, 0].numpy(), valid[i, 0].numpy())
        assert 0.02 < expected.min() and expected.max() < 0.98  # else the scene could not tell formulas apart
        np.testing.assert_allclose([found[name][i] for name in NAMES], expected, rtol=1e-9)


def test_a_perfect_prediction_of_boundaries_in_all_directions_scores_1():
    assert scores(ALL_SIDES, ALL_SIDES) == pytest.approx([1, 1, 1])


def test_a_direction_without_boundaries_counts_as_0():
    step = [[1.0, 2.0], [1.0, 2.0]]
    assert scores(step, step) == pytest.approx([1 / 4, 1 / 4, 1 / 4])


def test_a_boundary_with_the_wrong_side_nearer_is_wrong():
    assert scores([[1.0, 2.0]], [[2.0, 1.0]]) == [0, 0, 0]


def test_a_missed_boundary_costs_recall_and_an_invented_one_precision():
    smooth_pair, two_steps, one_step = [[1.0, 1.0, 1.0]], [[1.0, 2.0, 4.0]], [[1.0, 2.0, 2.0]]
    assert scores(one_step, two_steps) == pytest.approx([1 / 4, 1 / 8, 1 / 6])
    assert scores(two_steps, one_step) == pytest.approx([1 / 8, 1 / 4, 1 / 6])
    assert scores(smooth_pair, two_steps) == scores(two_steps, smooth_pair) == [0, 0, 0]


def test_each_threshold_weighs_as_much_as_it_is_high():
    # 1.1 exceeds the thresholds 1.05, 1.0722 and 1.0944, and of the target's 2.0 those are the only ones found.
    share = sum(THRESHOLDS[:3]) / sum(THRESHOLDS)
    assert scores([[1.0, 1.1]], [[1.0, 2.0]]) == pytest.approx([share / 4] * 3)


def test_a_ratio_of_exactly_the_threshold_is_no_boundary():
    assert scores([[1.0, 1.25]], [[1.0, 1.25]])[2] == pytest.approx(sum(THRESHOLDS[:9]) / sum(THRESHOLDS) / 4)
    assert scores([[1.0, 1.05]], [[1.0, 1.05]]) == [0, 0, 0]


def test_scale_has_no_influence_and_shift_has():
    pred, target, valid = scene()
    expected = boundary_scores(pred, target, valid)
    scaled, shifted = boundary_scores(pred * 8, target / 4, valid), boundary_scores(pred + 1, target, valid)
    for name in NAMES:
        torch.testing.assert_close(scaled[name], expected[name], rtol=0, atol=0)
        assert not torch.allclose(shifted[name], expected[name], rtol=0.05)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -1.0, 0.0])
def test_pixels_that_are_not_valid_have_no_influence(broken):
    pred, target, valid = scene()
    found = boundary_scores(pred.where(valid, broken), target.where(valid, broken), valid)
    for name, expected in boundary_scores(pred, target, valid).items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=0)


def test_an_image_without_valid_neighbors_is_nan_and_its_neighbor_is_not():
    pred, target, valid = scene()
    expected = boundary_scores(pred, target, valid)
    chessboard = (torch.arange(12)[:, None] + torch.arange(15)) % 2 == 0
    for mask in (torch.zeros(12, 15, dtype=torch.bool), chessboard):
        valid[0] = mask
        for name, found in boundary_scores(pred, target, valid).items():
            assert found[0].isnan()
            assert found[1] == expected[name][1]


def test_depth_that_has_no_ratio_is_an_error():
    pred, target, valid = scene()
    with pytest.raises(ValueError, match="pred must be positive where valid"):
        boundary_scores(-pred, target, valid)
    with pytest.raises(ValueError, match="must have one shape"):
        boundary_scores(pred, target, valid[:1])
