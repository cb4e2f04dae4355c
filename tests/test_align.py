import numpy as np
import pytest
import torch

from depthfm_core.depth.align import ALIGNMENTS, FARTHEST_M, align, fit

LEAST_SQUARES = ["affine", "log", "disparity"]


def scene(seed=0, batch=2, height=6, width=9):
    """Depth of 1 to 10 m, and a mask that leaves out about a third."""
    generator = torch.Generator().manual_seed(seed)
    depth_m = 10 ** torch.rand(batch, 1, height, width, generator=generator)
    return depth_m, torch.rand(batch, 1, height, width, generator=generator) < 0.7


def inverse_of(alignment, depth_m, scale=0.3, shift=0.5):
    """A prediction that the alignment brings back to depth_m exactly."""
    return {
        "affine": scale * depth_m + shift,
        "log": scale * depth_m.log() + shift,
        "disparity": scale / depth_m + shift,
        "scale": scale * depth_m,
    }[alignment]


def random_prediction(depth_m):
    return torch.rand(depth_m.shape, generator=torch.Generator().manual_seed(9)) + 0.5


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_what_the_alignment_leaves_open_is_recovered_exactly(alignment):
    depth_m, valid = scene()
    aligned = align(inverse_of(alignment, depth_m), depth_m, valid, alignment)
    assert aligned.dtype == torch.float32
    torch.testing.assert_close(aligned, depth_m, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_pixels_that_are_not_valid_have_no_influence(alignment):
    depth_m, valid = scene()
    prediction = random_prediction(depth_m)
    expected = align(prediction, depth_m, valid, alignment)
    for broken in (torch.nan, torch.inf, -1.0, 0.0, 1e30):
        aligned = align(
            prediction.where(valid, broken), depth_m.where(valid, broken), valid, alignment
        )  # the prediction too: networks may not see everywhere
        torch.testing.assert_close(aligned[valid], expected[valid], atol=0, rtol=0)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_an_image_in_a_batch_is_aligned_as_it_is_alone(alignment):
    depth_m, valid = scene(batch=3)
    prediction = random_prediction(depth_m)
    together = align(prediction, depth_m, valid, alignment)
    for i in range(3):
        alone = align(prediction[i : i + 1], depth_m[i : i + 1], valid[i : i + 1], alignment)
        torch.testing.assert_close(together[i], alone[0], atol=0, rtol=1e-6)


@pytest.mark.parametrize("alignment", LEAST_SQUARES)
def test_scale_and_shift_are_those_of_a_least_squares_solver(alignment):
    depth_m, valid = scene(batch=1)
    prediction = random_prediction(depth_m)
    to_space = {"affine": lambda d: d, "log": torch.log, "disparity": torch.reciprocal}[alignment]
    matrix = torch.stack([prediction[valid], torch.ones(int(valid.sum()))], dim=1).double()
    solution = torch.linalg.lstsq(matrix, to_space(depth_m)[valid].double()[:, None]).solution
    fitted = (prediction.double() * solution[0] + solution[1]).float()
    from_space = {"affine": lambda d: d, "log": torch.exp, "disparity": torch.reciprocal}[alignment]
    assert fitted.min() > 0  # else the disparity's guard would act
    torch.testing.assert_close(align(prediction, depth_m, valid, alignment), from_space(fitted))


def test_scale_is_the_ratio_of_medians_and_so_ignores_an_outlier():
    depth_m = torch.tensor([2.0, 4.0, 6.0, 8.0, 10.0]).view(1, 1, 1, 5)
    prediction = torch.tensor([1.0, 2.0, 3.0, 4.0, 500.0]).view(1, 1, 1, 5)
    aligned = align(prediction, depth_m, torch.ones_like(depth_m, dtype=torch.bool), "scale")
    torch.testing.assert_close(aligned, prediction * 2)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_prediction_is_aligned_alike_whatever_it_leaves_open(alignment):
    depth_m, valid = scene()
    prediction = random_prediction(depth_m)
    changed = prediction * 7 if alignment == "scale" else prediction * 7 - 3
    torch.testing.assert_close(
        align(changed, depth_m, valid, alignment),
        align(prediction, depth_m, valid, alignment),
        atol=1e-3,
        rtol=1e-4,
    )


def test_a_large_offset_does_not_cost_precision():
    depth_m, valid = scene()
    aligned = align(depth_m.double() * 1e-3 + 1e4, depth_m.double(), valid, "affine")
    torch.testing.assert_close(aligned, depth_m, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.7, -2.0])
@pytest.mark.parametrize(
    ("alignment", "mean"),
    [
        ("affine", lambda d: d.mean()),
        ("log", lambda d: d.log().mean().exp()),
        ("disparity", lambda d: 1 / (1 / d).mean()),
    ],
)
def test_a_constant_prediction_becomes_the_mean_of_the_target_in_the_space_of_the_fit(alignment, mean, value):
    depth_m, valid = scene(batch=1)
    prediction = torch.where(valid, torch.tensor(value, dtype=torch.float64), 5.0)  # 0.7's mean is off by a rounding
    expected = mean(depth_m[valid]).expand_as(depth_m)
    torch.testing.assert_close(align(prediction, depth_m, valid, alignment), expected)


@pytest.mark.parametrize("alignment", LEAST_SQUARES)
def test_one_valid_pixel_gives_its_depth_everywhere(alignment):
    depth_m, valid = scene(batch=1)
    valid = torch.zeros_like(valid)
    valid[0, 0, 2, 3] = True
    aligned = align(random_prediction(depth_m), depth_m, valid, alignment)
    torch.testing.assert_close(aligned, depth_m[0, 0, 2, 3].expand_as(depth_m))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_an_image_without_valid_pixels_is_nan_and_its_neighbor_is_not(alignment):
    depth_m, valid = scene()
    valid[0] = False
    aligned = align(random_prediction(depth_m), depth_m, valid, alignment)
    assert aligned[0].isnan().all()
    assert aligned[1].isfinite().all()


def test_scale_is_nan_where_the_median_of_the_prediction_is_not_positive():
    depth_m, valid = scene()
    for mostly in (0.0, -1.0):
        assert align(torch.where(depth_m < 9, mostly, 5.0), depth_m, valid, "scale").isnan().all()


def test_a_fitted_disparity_of_zero_or_less_ends_at_the_farthest_depth():
    depth_m = torch.tensor([1.0, 2.0, 4.0, 5.0]).view(1, 1, 1, 4)
    prediction = (1 / depth_m).clone()
    prediction[..., 3] = -3.0
    valid = torch.tensor([True, True, True, False]).view(1, 1, 1, 4)
    aligned = align(prediction, depth_m, valid, "disparity")
    torch.testing.assert_close(aligned.flatten(), torch.tensor([1.0, 2.0, 4.0, FARTHEST_M]))


def test_unknown_alignments_and_broken_input_are_errors():
    depth_m, valid = scene()
    with pytest.raises(ValueError, match="Unknown alignment 'linear'; choose one of affine, log, disparity, scale"):
        align(depth_m, depth_m, valid, "linear")
    with pytest.raises(ValueError, match="must have one shape"):
        align(depth_m[:1], depth_m, valid, "affine")
    with pytest.raises(ValueError, match=r"prediction must be \[B, 1, H, W\]"):
        align(depth_m[:, 0], depth_m[:, 0], valid[:, 0], "affine")
    for name in (0, 1, 2):
        given = [depth_m, depth_m, valid]
        given[name] = given[name].numpy()
        with pytest.raises(ValueError, match=r"(prediction|target_depth_m|valid) is a ndarray.*torch\.from_numpy"):
            align(*given, "affine")
    with pytest.raises(ValueError, match="bool mask"):
        align(depth_m, depth_m, valid.float(), "affine")
    with pytest.raises(ValueError, match="prediction has NaN"):
        align(depth_m.where(~valid, torch.nan), depth_m, valid, "affine")
    with pytest.raises(ValueError, match="max_side_px is 0; choose 1 or more"):
        align(depth_m, depth_m, valid, "affine", max_side_px=0)
    for value in (0.0, -1.0, torch.nan, torch.inf):
        with pytest.raises(ValueError, match="target_depth_m must be positive and finite"):
            align(depth_m, depth_m.where(~valid, value), valid, "log")


def independently(alignment, prediction, depth_m, valid):
    """One image [H, W] aligned by the published formulas, in NumPy."""
    p, g = prediction[valid], depth_m[valid]
    if alignment == "scale":
        return prediction * np.median(g) / np.median(p)
    space = {"affine": g, "log": np.log(g), "disparity": 1 / g}[alignment]
    scale, shift = np.linalg.lstsq(np.stack([p, np.ones_like(p)], axis=1), space, rcond=None)[0]
    line = prediction * scale + shift
    return {"affine": line, "log": np.exp(line), "disparity": 1 / np.clip(line, 1e-3, None)}[alignment]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_in_double_precision_the_result_equals_an_independent_one(alignment, seed):
    depth_m, valid = (values.numpy() for values in scene(seed, batch=3))
    depth_m = depth_m.astype(np.float64)
    prediction = np.random.default_rng(seed).uniform(0.5, 1.5, depth_m.shape)
    tensors = (torch.from_numpy(values) for values in (prediction, depth_m, valid))
    aligned = align(*tensors, alignment, dtype=torch.float64)
    for i in range(3):
        expected = independently(alignment, prediction[i, 0], depth_m[i, 0], valid[i, 0])
        np.testing.assert_allclose(aligned[i, 0].numpy(), expected, rtol=1e-9)


def test_disparity_where_the_prediction_is_positive_is_the_one_of_the_benchmark():
    depth_m, valid = (values.numpy() for values in scene(batch=1))
    prediction = 1 / depth_m + np.random.default_rng(3).uniform(-0.2, 0.2, depth_m.shape)
    prediction[..., 0, :3] = -3.0
    fitted_to = valid & (prediction > 0)
    tensors = (torch.from_numpy(values) for values in (prediction, depth_m.astype(np.float64), fitted_to))
    aligned = align(*tensors, "disparity", dtype=torch.float64)
    expected = independently("disparity", prediction[0, 0], depth_m[0, 0].astype(np.float64), fitted_to[0, 0])
    np.testing.assert_allclose(aligned[0, 0].numpy(), expected, rtol=1e-9)
    assert expected.max() == FARTHEST_M  # 1e-3 clipped some


def test_the_median_of_an_even_number_of_pixels_is_the_mean_of_the_middle_two():
    depth_m = torch.tensor([2.0, 4.0, 8.0, 100.0]).view(1, 1, 1, 4)
    prediction = torch.tensor([0.1, 1.0, 3.0, 9.0]).view(1, 1, 1, 4)
    aligned = align(prediction, depth_m, torch.ones_like(depth_m, dtype=torch.bool), "scale")
    torch.testing.assert_close(aligned, prediction * 6 / 2)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_the_fitted_line_is_the_inverse_of_what_was_done_to_the_depth(alignment):
    depth_m, valid = scene()
    line = fit(inverse_of(alignment, depth_m.double()), depth_m.double(), valid, alignment)
    shift = 0.0 if alignment == "scale" else -0.5 / 0.3
    np.testing.assert_allclose(line.scale.flatten(), 1 / 0.3, rtol=1e-9)
    np.testing.assert_allclose(line.shift.flatten(), shift, rtol=1e-9)


def test_a_fit_to_a_thinned_map_sees_every_nth_column_and_aligns_them_all():
    # Twelve columns, of which a longest side of 3 keeps the columns 0, 4 and 8. There the depth is the prediction
    # times 2, elsewhere it has nothing to do with it.
    prediction = torch.arange(1.0, 13.0).repeat(2, 1)[None, None]
    depth_m = torch.full_like(prediction, 5.0)
    depth_m[..., [0, 4, 8]] = 2 * prediction[..., [0, 4, 8]]
    valid = torch.ones_like(depth_m, dtype=torch.bool)
    torch.testing.assert_close(align(prediction, depth_m, valid, "affine", max_side_px=3), prediction * 2)
    assert not torch.allclose(align(prediction, depth_m, valid, "affine"), prediction * 2, rtol=0.1)


@pytest.mark.parametrize(("height", "width", "max_side_px"), [(5, 23, 9), (23, 9, 17), (7, 31, 30), (40, 60, 11)])
def test_the_thinned_map_is_the_one_that_the_benchmark_fits_to(height, width, max_side_px):
    depth_m, valid = scene(batch=1, height=height, width=width)
    prediction = random_prediction(depth_m)
    # What Marigold's evaluation calls: an upsampling that is one-dimensional for a map [1, H, W].
    downscale = torch.nn.Upsample(scale_factor=max_side_px / max(height, width), mode="nearest")
    p, g, v = (downscale(values[0].float())[0].double().numpy() for values in (prediction, depth_m, valid))
    assert p.shape[0] == height
    matrix = np.stack([p[v > 0], np.ones(int(v.sum()))], axis=1)
    scale, shift = np.linalg.lstsq(matrix, g[v > 0], rcond=None)[0]
    aligned = align(prediction, depth_m, valid, "affine", max_side_px=max_side_px, dtype=torch.float64)
    np.testing.assert_allclose(aligned.numpy(), prediction.double().numpy() * scale + shift, rtol=1e-9)


def test_a_map_too_narrow_to_be_thinned_is_fitted_to_one_column():
    depth_m = torch.rand(1, 1, 100, 5, generator=torch.Generator().manual_seed(0)) + 1
    prediction = torch.cat([depth_m[..., :1] * 3, torch.rand(1, 1, 100, 4)], dim=-1)
    aligned = align(prediction, depth_m, torch.ones_like(depth_m, dtype=torch.bool), "affine", max_side_px=10)
    torch.testing.assert_close(aligned[..., 0], depth_m[..., 0])


@pytest.mark.parametrize("max_side_px", [9, 10, 1000, None])
def test_a_map_that_is_small_enough_is_not_thinned(max_side_px):
    depth_m, valid = scene()
    prediction = random_prediction(depth_m)
    aligned = align(prediction, depth_m, valid, "log", max_side_px=max_side_px)
    torch.testing.assert_close(aligned, align(prediction, depth_m, valid, "log"), atol=0, rtol=0)
