import sys

import numpy as np
import pytest
import torch

from depthfm_core.depth.color import COLORMAPS, _table, colorize

from .live_bytes import LiveBytes

LEVEL = 1 / 255


def ramp(levels=256):
    return torch.linspace(0, 1, levels).view(1, 1, 1, levels)


def original_colors(name):
    matplotlib = pytest.importorskip("matplotlib")
    return matplotlib.colormaps["Spectral" if name == "spectral" else name]


@pytest.mark.parametrize("name", COLORMAPS)
def test_the_256_colors_are_those_of_matplotlib_within_one_level(name):
    expected = torch.tensor(original_colors(name)(np.arange(256))[:, :3]).float()
    colors = colorize(ramp(), name)[0, :, 0].T
    assert (colors - expected).abs().max() <= LEVEL


@pytest.mark.parametrize("name", COLORMAPS)
def test_between_two_colors_the_picture_is_interpolated_linearly(name):
    colors = colorize(ramp(), name)
    between = colorize((ramp()[..., 1:] + ramp()[..., :-1]) / 2, name)
    torch.testing.assert_close(between, (colors[..., 1:] + colors[..., :-1]) / 2, atol=1e-4, rtol=0)
    fine = colorize(ramp(255 * 16 + 1), name)
    assert fine.diff(dim=3).abs().max() <= colors.diff(dim=3).abs().max() / 16 + 1e-4


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("name", COLORMAPS)
def test_every_pixel_is_the_linear_mix_of_its_two_colors(name, invert):
    depth = torch.rand(2, 1, 31, 17, generator=torch.Generator().manual_seed(0))
    depth[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    colors, position = _table(name).T, (1 - depth if invert else depth) * 255
    low = position.long().clamp_max(254)
    expected = torch.lerp(colors[low], colors[low + 1], (position - low)[..., None])[:, 0].permute(0, 3, 1, 2)
    torch.testing.assert_close(colorize(depth, name, invert), expected, atol=2e-7, rtol=0)  # fused or not


def test_coloring_takes_three_times_the_memory_of_the_picture_at_most():
    depth = torch.rand(1, 1, 200, 300, generator=torch.Generator().manual_seed(0))
    with LiveBytes() as live:
        image = colorize(depth)
    assert live.peak < 3.2 * image.nbytes


def test_spectral_shows_near_in_red_and_far_in_blue():
    near, far = colorize(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2))[0, :, 0].T
    torch.testing.assert_close(near, torch.tensor([158, 1, 66]) / 255)
    torch.testing.assert_close(far, torch.tensor([94, 79, 162]) / 255)


def test_gray_is_the_depth_itself_in_three_channels():
    depth = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(colorize(depth, "gray"), depth.expand(2, 3, 5, 7), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", COLORMAPS)
def test_invert_paints_the_mirrored_depth(name):
    mirrored = colorize(ramp(), name, invert=True)
    torch.testing.assert_close(mirrored, colorize(ramp(), name).flip(3), atol=1e-3, rtol=0)
    assert not torch.allclose(mirrored, colorize(ramp(), name), atol=0.1)


@pytest.mark.parametrize("name", COLORMAPS)
def test_the_picture_is_float32_in_0_to_1_with_the_shape_of_the_batch(name):
    depth = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(0)).half()
    image = colorize(depth, name)
    assert image.shape == (2, 3, 5, 7)
    assert image.dtype == torch.float32
    assert image.min() >= 0
    assert image.max() <= 1
    torch.testing.assert_close(image[1, :, 2, 3], colorize(depth[1:, :, 2:3, 3:4], name)[0, :, 0, 0])


def test_color_maps_need_no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in COLORMAPS:
        assert colorize(ramp(), name).isfinite().all()


def test_unknown_names_other_shapes_and_values_out_of_range_are_errors():
    with pytest.raises(ValueError, match="Unknown color map 'jet'; choose one of spectral, viridis"):
        colorize(ramp(), "jet")
    with pytest.raises(ValueError, match=r"must be \[B, 1, H, W\]"):
        colorize(ramp().expand(1, 3, 1, 256))
    for value in (-0.1, 1.1, torch.nan):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            colorize(torch.full((1, 1, 2, 2), value))
