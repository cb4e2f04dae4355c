import pytest
import torch

from depthfm_core.depth.align import align, fit
from depthfm_core.depth.inliers import Ransac, inliers

LINES = ["affine", "log", "disparity"]


def scene(seed=0, batch=2, height=40, width=50):
    """Depth of 1 to 10 m, and a mask that leaves out about a third."""
    generator = torch.Generator().manual_seed(seed)
    depth_m = 10 ** torch.rand(batch, 1, height, width, generator=generator)
    return depth_m, torch.rand(batch, 1, height, width, generator=generator) < 0.7


def inverse_of(alignment, depth_m):
    """A prediction that the alignment brings back to depth_m exactly."""
    return 0.5 + 0.3 * {"affine": depth_m, "log": depth_m.log(), "disparity": 1 / depth_m}[alignment]


def random_prediction(depth_m):
    return torch.rand(depth_m.shape, generator=torch.Generator().manual_seed(9)) + 0.5


def with_outliers(alignment, seed=0, share=0.3):
    """A prediction, perfect up to scale and shift, of depth of which a share was measured 3 to 10 times too far."""
    depth_m, valid = scene(seed)
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(depth_m.shape, generator=generator) < share
    factor = 3 + 7 * torch.rand(depth_m.shape, generator=generator)
    return inverse_of(alignment, depth_m), depth_m, torch.where(wrong, depth_m * factor, depth_m), valid


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
@pytest.mark.parametrize("alignment", LINES)
def test_ransac_recovers_scale_and_shift_with_30_percent_outliers(alignment, seed):
    prediction, depth_m, measured, valid = with_outliers(alignment)
    aligned = align(prediction, measured, valid, alignment, ransac=Ransac(seed=seed))
    torch.testing.assert_close(aligned, depth_m, atol=1e-4, rtol=1e-4)
    plain = align(prediction, measured, valid, alignment)
    assert ((plain - depth_m).abs() / depth_m).mean() > 0.1


def test_the_default_tolerance_tells_5_percent_of_noise_from_50_percent_of_outliers():
    prediction, depth_m, measured, valid = with_outliers("log", share=0.5)
    generator = torch.Generator().manual_seed(3)
    prediction = prediction + 0.3 * 0.05 * torch.randn(prediction.shape, generator=generator)
    kept = align(prediction, measured, valid, "log", ransac=Ransac())
    undisturbed = align(prediction, depth_m, valid, "log")
    assert (kept / undisturbed - 1).abs().mean() < 0.05


@pytest.mark.parametrize("alignment", LINES)
def test_ransac_is_the_least_squares_over_the_inliers_and_without_outliers_over_all(alignment):
    depth_m, valid = scene()
    prediction = inverse_of(alignment, depth_m) + 0.001 * random_prediction(depth_m)
    torch.testing.assert_close(
        align(prediction, depth_m, valid, alignment, ransac=Ransac(tolerance=1e6)),
        align(prediction, depth_m, valid, alignment),
        atol=0,
        rtol=0,
    )
    far = valid & (torch.rand(depth_m.shape, generator=torch.Generator().manual_seed(1)) < 0.3)
    torch.testing.assert_close(
        align(prediction, torch.where(far, depth_m * 1000, depth_m), valid, alignment, ransac=Ransac(tolerance=0.1)),
        align(prediction, depth_m, valid & ~far, alignment),
        atol=0,
        rtol=1e-6,
    )


def test_the_seed_alone_decides_what_ransac_draws():
    prediction, _, measured, valid = with_outliers("affine")
    prediction = prediction + 0.05 * random_prediction(prediction)

    def slopes(**settings):
        return fit(prediction, measured, valid, "affine", ransac=Ransac(num_trials=1, **settings)).scale.flatten()

    first = slopes(seed=5)
    torch.rand(7)  # the global generator moves on
    assert torch.equal(slopes(seed=5), first)
    assert not torch.equal(slopes(seed=6), first)


def test_ransac_aligns_an_image_in_a_batch_as_it_does_alone():
    prediction, _, measured, valid = with_outliers("log")
    valid[0, 0, :20] = False
    together = align(prediction, measured, valid, "log", ransac=Ransac())
    for i in range(2):
        alone = align(prediction[i : i + 1], measured[i : i + 1], valid[i : i + 1], "log", ransac=Ransac())
        torch.testing.assert_close(together[i], alone[0], atol=0, rtol=1e-6)


def test_ransac_finds_the_inliers_of_images_larger_than_what_it_judges_lines_by():
    depth_m, valid = scene(batch=1, height=200, width=200)
    wrong = torch.arange(200)[:, None] < 60  # together, so that pixels of one place would tell nothing of the others
    measured = torch.where(wrong, depth_m * 20, depth_m)
    aligned = align(0.3 * depth_m + 0.5, measured, valid, "affine", ransac=Ransac(tolerance=0.01))
    torch.testing.assert_close(aligned, depth_m, atol=1e-2, rtol=1e-3)


def test_more_trials_make_a_right_line_certain():
    prediction, depth_m, measured, valid = with_outliers("affine", share=0.8)
    error = [
        (align(prediction, measured, valid, "affine", ransac=Ransac(num_trials, 0.01)) / depth_m - 1).abs().mean()
        for num_trials in (1, 500)
    ]
    assert error[0] > 0.1 > 1e-3 > error[1]


@pytest.mark.parametrize("alignment", LINES)
def test_ransac_copes_with_what_has_no_line(alignment):
    depth_m, valid = scene(batch=3)
    valid[0] = False
    valid[1] = False
    valid[1, 0, 2, 3] = True
    prediction = random_prediction(depth_m)
    prediction[2] = 0.7
    aligned = align(prediction, depth_m, valid, alignment, ransac=Ransac())
    assert aligned[0].isnan().all()
    torch.testing.assert_close(aligned[1], depth_m[1, 0, 2, 3].expand_as(depth_m[1]))
    assert (aligned[2] == aligned[2, 0, 0, 0]).all()
    assert depth_m[2].min() < aligned[2, 0, 0, 0] < depth_m[2].max()


def test_ransac_keeps_what_is_right_where_most_of_the_target_has_one_depth():
    target = torch.rand(1, 1, 30, 40, generator=torch.Generator().manual_seed(0)) + 1
    target[..., :25, :] = 3.0
    prediction = target + 1e-4 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    kept = inliers(prediction, target, torch.ones_like(target, dtype=torch.bool), Ransac())
    assert kept.float().mean() > 0.99


def test_settings_without_sense_are_errors():
    depth_m, valid = scene()
    with pytest.raises(ValueError, match="ransac fits scale and shift; 'scale' is a ratio of medians"):
        align(depth_m, depth_m, valid, "scale", ransac=Ransac())
    for settings in ({"num_trials": 0}, {"tolerance": 0.0}, {"tolerance": float("nan")}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} is .*; choose"):
            Ransac(**settings)


def test_the_callers_default_device_makes_no_difference():
    prediction, _, measured, valid = with_outliers("affine")
    wanted = align(prediction, measured, valid, "affine", max_side_px=20, ransac=Ransac())
    torch.set_default_device("meta")
    try:
        found = align(prediction, measured, valid, "affine", max_side_px=20, ransac=Ransac())
    finally:
        torch.set_default_device(None)
    assert torch.equal(found, wanted)
