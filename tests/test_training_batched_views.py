"""Views of many frames at once: crops, changes of the picture, and targets."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core.training import batched_views
from depthfm_core.training.augment import PhotometricSettings, ViewSettings
from depthfm_core.training.batched_views import change_photometry_of_batch, draw_views, normalize_targets
from depthfm_core.training.target import NormalizationSettings, normalize_target

NOTHING = PhotometricSettings(
    exposure_stops=0, gamma=1, contrast=0, white_balance=0, saturation=0, hue_deg=0, grey_probability=0, vignette=0,
    blur_px=0, noise=0, jpeg_quality=100, border_probability=0,
)  # fmt: skip


def still_frames():
    """Pictures [5, 3, 24, 32] uint8 and depth [5, 1, 24, 32], a corner of it sky."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 3, 24, 32), dtype=torch.uint8, generator=generator)
    depths_m = torch.rand(5, 1, 24, 32, generator=generator) * 5 + 1
    depths_m[:, :, :6, :8] = 0
    return images, depths_m


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def frames():
    return still_frames()


def test_the_whole_view_is_the_frame(frames, rng):
    whole = ViewSettings(24, 32, min_scale=1, aspect_jitter=0, flip_probability=0)
    images, depths_m = draw_views(*frames, whole, rng)
    torch.testing.assert_close(images, frames[0] / 255)
    assert torch.equal(depths_m, frames[1])


def test_picture_and_depth_are_mirrored_together(frames, rng):
    mirrored = ViewSettings(24, 32, min_scale=1, aspect_jitter=0, flip_probability=1)
    images, depths_m = draw_views(*frames, mirrored, rng)
    torch.testing.assert_close(images, frames[0].flip(-1) / 255)
    assert torch.equal(depths_m, frames[1].flip(-1))


def test_crops_lie_within_the_frame_and_mix_no_depths(frames, rng):
    images, depths_m = draw_views(*frames, ViewSettings(16, 16, min_scale=0.5), rng)
    assert images.shape == (5, 3, 16, 16) and depths_m.shape == (5, 1, 16, 16)
    for view, frame in zip(depths_m, frames[1], strict=True):
        assert torch.isin(view, frame).all()


def test_pictures_and_depth_of_a_crop_stay_aligned(rng):
    ramp = torch.linspace(0, 255, 64).round().byte().expand(4, 3, 48, 64).contiguous()
    images, depths_m = draw_views(ramp, ramp[:, :1].float() + 1, ViewSettings(24, 32, min_scale=0.5), rng)
    assert (images[:, :1] * 255 + 1 - depths_m).abs().max() < 255 / 64 * 1.01  # one pixel of the ramp


@pytest.mark.parametrize("quality", [10, 30, 49, 51, 75, 90])
def test_a_jpeg_of_a_gray_picture_is_pillows(quality):
    values = torch.randint(0, 256, (8, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    picture = Image.fromarray(values).resize((40, 32), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    gray = torch.from_numpy(np.array(picture))[None, None] / 255
    ours = batched_views._jpegs(gray.expand(1, 3, 32, 40), np.array([100 - quality]))
    assert (ours * 255 - torch.from_numpy(np.array(Image.open(file)))).abs().mean() < 2.5


def test_pictures_are_kept_as_jpegs_of_a_quality_between_the_worst_and_the_best(rng):
    images = torch.rand(64, 3, 16, 16)

    def error(quality):
        settings = PhotometricSettings(**{**vars(NOTHING), "probability": 1.0, "jpeg_quality": quality})
        return (change_photometry_of_batch(images, settings, rng) - images).abs().mean()

    assert 0 < error(90) < error(5)


def test_borders_are_black_white_or_any_gray(rng):
    settings = PhotometricSettings(**{**vars(NOTHING), "border_probability": 1.0, "border": 0.49})
    corners = change_photometry_of_batch(torch.full((300, 3, 8, 8), 0.5), settings, rng)[:, 0, 0, 0]
    bordered = corners[corners != 0.5]
    for share in (bordered == 0, bordered == 1, (bordered > 0) & (bordered < 1)):
        assert share.float().mean() > 0.2


def test_targets_of_a_batch_are_those_of_each_frame(frames):
    settings = NormalizationSettings(5.0, 90.0)
    alone = [normalize_target(depth_m, depth_m > 0, settings) for depth_m in frames[1]]
    torch.testing.assert_close(normalize_targets(frames[1], settings), torch.stack(alone))


def test_a_frame_of_sky_alone_is_far():
    assert torch.equal(normalize_targets(torch.zeros(1, 1, 8, 8), NormalizationSettings()), torch.ones(1, 1, 8, 8))


def test_the_outermost_pixels_go_on_beyond_the_frame():
    images = torch.arange(2 * 3 * 6 * 8).reshape(2, 3, 6, 8).to(torch.uint8)
    depths_m = images[:, :1].float() + 1
    view = ViewSettings(12, 16, min_scale=1.0, aspect_jitter=0.0, flip_probability=0.0)
    pictures, depths = draw_views(images, depths_m, view, np.random.default_rng(0))
    for corner in (0, -1):
        torch.testing.assert_close(pictures[..., corner, corner], images[..., corner, corner] / 255)
    assert depths.min() == depths_m.min() and set(depths.flatten().tolist()) == set(depths_m.flatten().tolist())
