"""The rules that turn a teacher's numbers into depth, and the files that hold it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core.data import pairs
from depthfm_core.evaluation.baselines import GIVES, Method
from depthfm_core.training.target import NormalizationSettings, normalize_target
from depthfm_core.training.teacher import (
    RULES,
    choose_range,
    estimate_depth,
    is_labeled,
    label_paths,
    read_as_stored,
    to_depth,
    write_label,
)

DOCS = Path(__file__).parents[1] / "docs" / "labels.md"
RANGED = [gives for gives, rule in RULES.items() if rule.dynamic_range]
# What each kind leaves open, as it claims: another scale, shift or power must not change the label.
LEFT_OPEN = {
    "depth": lambda d: 3 * d - 7,
    "relative_depth": lambda d: 0.01 * d,
    "log_depth": lambda d: 2.5 * d + 40,
    "disparity": lambda d: 1e-3 * d,
}


def scene(low=1.0, high=8.0):
    """[1, 1, 20, 30] depth in meters, every value another, both ends reached."""
    share = torch.linspace(0, 1, 600, dtype=torch.float64)[
        torch.randperm(600, generator=torch.Generator().manual_seed(0))
    ]
    return (low + (high - low) * share).reshape(1, 1, 20, 30)


# What a perfect teacher of each kind says of depth d; R with which its rule must find d's ratios, and how exactly.
PERFECT = {
    "depth_m": (lambda d: d, None, 1e-5),
    "relative_depth": (lambda d: 0.3 * d, None, 1e-5),
    "depth": (lambda d: 0.3 * d - 0.1, 8.0, 1e-5),
    "log_depth": (lambda d: 0.7 * d.log() + 2, 8.0, 1e-5),
    "disparity": (lambda d: 0.2 / d, 1e6, 1e-4),
}


def test_there_is_a_rule_for_whatever_a_method_gives():
    assert set(RULES) == set(GIVES) == set(PERFECT)


@pytest.mark.parametrize("gives", PERFECT)
def test_a_perfect_teacher_gives_the_true_ratios(gives):
    says, dynamic_range, tolerance = PERFECT[gives]
    depth = to_depth(says(scene()).float(), gives, dynamic_range)
    ratio = depth.double() / scene()
    assert torch.allclose(ratio, ratio.mean(), rtol=tolerance)


@pytest.mark.parametrize("gives", PERFECT)
@pytest.mark.parametrize("high", [1.5, 8.0, 80.0])
def test_training_sees_nearly_the_true_normalized_log_depth_with_the_rules_own_range(gives, high):
    says, _, _ = PERFECT[gives]
    true, valid = scene(high=high)[0].float(), torch.ones(1, 20, 30, dtype=torch.bool)
    expected = normalize_target(true, valid, NormalizationSettings())
    found = normalize_target(to_depth(says(true), gives), valid, NormalizationSettings())
    # Depth up to scale and shift does not tell the ratio, so its rule is off by what R is; the others know it.
    largest = {"depth": 1.0, "disparity": 0.2}.get(gives, 1e-4)
    assert (found - expected).abs().max() < largest
    order = expected.flatten().argsort()
    assert (found.flatten()[order].diff() >= 0).all()


@pytest.mark.parametrize("gives", RULES)
def test_depth_is_positive_and_in_the_teachers_order(gives):
    values = torch.randn(1, 1, 20, 30, generator=torch.Generator().manual_seed(1)) * 5
    depth = to_depth(values, gives)
    assert depth.dtype == torch.float32 and depth.shape == values.shape
    assert (depth > 0).all() and depth.isfinite().all()
    farther = values.flatten().argsort(descending=gives == "disparity")
    steps = depth.flatten()[farther].diff()
    assert (steps >= 0).all()
    assert (steps > 0).sum() >= (599 if gives in RANGED else 250)  # what is not positive has no ratio, so one depth


@pytest.mark.parametrize("gives", LEFT_OPEN)
def test_what_the_teacher_leaves_open_does_not_change_the_label(gives):
    values = scene()
    assert torch.allclose(to_depth(LEFT_OPEN[gives](values), gives), to_depth(values, gives), rtol=1e-5)


def test_meters_stay_meters_beyond_what_16_bits_hold():
    values = torch.tensor([[0.5, 65.6, 300.0]])
    assert torch.equal(to_depth(values, "depth_m"), values)


def test_what_is_not_positive_becomes_the_least_depth():
    assert to_depth(torch.tensor([[-1.0, 0.0, 2.0]]), "depth_m").tolist() == [[pytest.approx(1e-3)] * 2 + [2]]
    found = to_depth(torch.tensor([[-1.0, 0.0, 2.0, 4.0]]), "relative_depth")
    assert found.tolist() == [[pytest.approx(1e-4)] * 2 + [0.5, 1]]


@pytest.mark.parametrize("gives", RANGED)
@pytest.mark.parametrize("dynamic_range", [None, 2.0, 50.0])
def test_depth_reaches_from_one_over_the_range_to_one(gives, dynamic_range):
    found = to_depth(torch.tensor([[0.0, 0.3, 4.0]]), gives, dynamic_range)
    low, high = found.aminmax()
    assert high == 1 and low == pytest.approx(1 / (dynamic_range or RULES[gives].dynamic_range))


def test_disparity_that_ends_above_zero_keeps_its_ratio_and_one_below_zero_is_moved_up():
    wall = to_depth(torch.tensor([[5.0, 10.0]]), "disparity", 1e5)
    assert wall[0, 0] / wall[0, 1] == pytest.approx(2, rel=1e-3)
    values = torch.tensor([[-1.0, 0.0, 3.0]])
    assert torch.equal(to_depth(values, "disparity"), to_depth(values + 1, "disparity"))


@pytest.mark.parametrize("gives", RULES)
@pytest.mark.parametrize("value", [-2.0, 0.0, 3.0])
def test_a_constant_map_gives_one_positive_depth(gives, value):
    depth = to_depth(torch.full((1, 1, 2, 2), value), gives)
    assert (depth == depth[0, 0, 0, 0]).all() and depth[0, 0, 0, 0] > 0


@pytest.mark.parametrize("dynamic_range", [1.0, 0.0, -5.0, float("nan"), float("inf"), 1e7])
@pytest.mark.parametrize("gives", RANGED)
def test_a_range_that_is_none_is_refused(gives, dynamic_range):
    with pytest.raises(ValueError, match="choose a number above 1"):
        choose_range(gives, dynamic_range)


@pytest.mark.parametrize("gives", [gives for gives in RULES if gives not in RANGED])
def test_a_range_for_a_teacher_that_knows_the_ratios_is_refused(gives):
    with pytest.raises(ValueError, match="leave the dynamic range 5.0 out"):
        to_depth(torch.ones(1, 1), gives, 5.0)


@pytest.mark.parametrize("gives", RULES)
def test_the_documentation_states_every_rule(gives):
    own = RULES[gives].dynamic_range
    row = f"| {gives} | `{RULES[gives].text}` | {f'{own:g}' if own else 'none'} |"
    assert row in DOCS.read_text(encoding="utf-8")


def test_a_map_of_the_teachers_own_size_comes_to_the_pictures():
    seen = []
    method = Method("m", "depth_m", lambda image: (seen.append(image) or torch.tensor([[1.0, 3.0]]), 1))
    image = torch.rand(1, 3, 5, 8)
    depth = estimate_depth(method, image)
    assert depth.shape == (1, 1, 5, 8) and torch.equal(seen[0], image)
    assert depth[0, 0, 0, 0] == 1 and depth[0, 0, 0, -1] == 3


@pytest.fixture
def photo(tmp_path):
    """A function that saves noise under a name below `photos` and gives the path."""

    def save(name, size=(12, 20), seed=0, **how):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(path, **how)
        return path

    return save


@pytest.mark.parametrize(("long_side", "size"), [(0, (12, 20)), (20, (12, 20)), (30, (12, 20)), (10, (6, 10))])
def test_a_photograph_is_made_smaller_and_never_larger(photo, long_side, size):
    assert read_as_stored(photo("a.png"), long_side).shape[2:] == size


def test_the_stored_picture_is_the_one_that_the_teacher_saw(photo, tmp_path):
    image = read_as_stored(photo("a.jpg"), 10)
    write_label(tmp_path, "a.jpg", image, torch.ones(1, 1, *image.shape[2:]))
    assert torch.equal(pairs.read(pairs.list_entries(tmp_path)[0]).image[None], image)


def test_labels_of_any_names_are_read_as_pairs_of_their_own(tmp_path):
    names = ("a.jpg", "a.png", "a.webp", "a_depth.png", "image.png", "depth.png", "sub/a.jpg", "sub.jpg", "b_rgb.jpg")
    for index, name in enumerate(names):
        shade = torch.full((1, 3, 2, 3), index / 255)
        write_label(tmp_path, name, shade, torch.full((1, 1, 2, 3), index + 100.0))
    samples = {entry.name: pairs.read(entry) for entry in pairs.list_entries(tmp_path)}
    assert set(samples) == set(names)
    for index, name in enumerate(names):
        assert (samples[name].image * 255).round().unique().tolist() == [index]
        assert samples[name].depth_m.unique().tolist() == [index + 100] and samples[name].valid.all()


def test_a_label_is_there_when_both_its_files_are(tmp_path):
    write_label(tmp_path, "sub/a.jpg", torch.zeros(1, 3, 2, 2), torch.ones(1, 1, 2, 2))
    assert is_labeled(tmp_path, "sub/a.jpg") and not is_labeled(tmp_path, "a.jpg")
    for path in label_paths(tmp_path, "sub/a.jpg"):
        content = path.read_bytes()
        path.unlink()
        assert not is_labeled(tmp_path, "sub/a.jpg")
        path.write_bytes(content)


def test_a_picture_that_cannot_be_written_leaves_no_pair(tmp_path):
    with pytest.raises(ValueError, match="values"):
        write_label(tmp_path, "a.jpg", torch.full((1, 3, 2, 2), 2.0), torch.ones(1, 1, 2, 2))
    assert not is_labeled(tmp_path, "a.jpg") and [path.name for path in tmp_path.iterdir()] == ["a.jpg.npy"]
