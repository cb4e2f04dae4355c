import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from depthfm_core import EstimationSettings, load_pipeline
from depthfm_core.depth import edges
from depthfm_core.depth.edges import resize_sharply, sharpen_edges
from depthfm_core.resize import enlarge, shrink


def scene(height: int = 48, width: int = 64, wall_px: int = 30) -> tuple[Tensor, Tensor]:
    """A dark box before a bright wall, [1, 1, H, W] of depth 0 and 1 and [1, 3, H, W], the box left of `wall_px`."""
    depth = torch.zeros(1, 1, height, width)
    depth[..., wall_px:] = 1
    return depth, (0.2 + 0.6 * depth).expand(-1, 3, -1, -1)


def blurred(depth: Tensor, cell_px: int = 4) -> Tensor:
    """As a network gives it that sees cells of some pixels: a ramp where the edge is."""
    size = tuple(depth.shape[-2:])
    return enlarge(shrink(depth, tuple(side // cell_px for side in size)), size)


def test_a_ramp_becomes_the_pictures_edge():
    depth, image = scene()
    ramp = blurred(depth)
    sharp = sharpen_edges(ramp, image)
    assert ramp.diff(dim=-1).max() < 0.2 and sharp.diff(dim=-1)[..., 29].min() > 0.6
    assert torch.equal(sharp.round(), depth)
    assert (sharp - depth).abs().mean() < (ramp - depth).abs().mean() / 50


@pytest.mark.parametrize("light", [1, 0.3, 0.1])
def test_a_wide_ramp_gets_half_as_wide_in_the_dark_too(light):
    depth, image = scene()
    ramp = blurred(depth, cell_px=8)
    sharp = sharpen_edges(ramp, light * image)
    assert torch.equal(sharp.round(), depth)
    assert (sharp - depth).abs().mean() < (ramp - depth).abs().mean() / 2


def test_noise_in_the_picture_does_not_keep_a_ramp_from_its_edge():
    depth, image = scene()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    ramp = blurred(depth, cell_px=6)
    sharp = sharpen_edges(ramp, (image + 0.2 * noise).clamp(0, 1))
    assert (sharp - depth).abs().mean() < (ramp - depth).abs().mean() / 2


def test_a_step_that_the_picture_does_not_show_stays_where_it_is():
    depth, image = scene()
    for level in (0.0, 0.01):  # of a camera's noise, which is no edge
        noise = level * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
        assert torch.equal(sharpen_edges(depth, 0.5 + noise).round(), depth)


def test_slopes_and_flat_surfaces_keep_their_values_whatever_is_printed_on_them():
    columns = torch.linspace(-1, 1, 64).expand(1, 1, 48, 64)
    image = (torch.arange(64) // 8 % 2).float().expand(1, 3, 48, 64)
    assert (sharpen_edges(columns, image) - columns)[..., 12:-12].abs().max() < 2 * 2 / 63  # two pixels' slope
    flat = torch.full((1, 1, 48, 64), 0.3)
    assert torch.equal(sharpen_edges(flat, image), flat)


def test_no_depth_comes_out_that_is_far_from_all_that_went_in():
    surfaces = torch.tensor([0.0, 0.3, 1.0])  # with nothing between them
    values = surfaces[torch.randint(3, (2, 1, 20, 30), generator=torch.Generator().manual_seed(0))]
    sharp = sharpen_edges(values, torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(1)))
    assert (sharp - values).abs().amax((1, 2, 3)).min() > 0.25
    assert (sharp[..., None] - surfaces).abs().amin(-1).max() < 1e-3


def test_a_curved_surface_beside_an_edge_is_no_staircase():
    rows = torch.linspace(0, 0.2, 48)[:, None] ** 2 * 4
    depth, image = scene()
    depth = torch.where(depth == 0, rows, 1.0)
    sharp = sharpen_edges(depth, image)[0, 0, 8:-8, 27]  # a column of the near side
    assert (sharp - depth[0, 0, 8:-8, 27]).abs().max() < 0.02
    assert (sharp.diff() > 0).all()


def test_a_ball_in_a_noisy_picture_is_no_staircase():
    """A median alone would take single pixels' depths, which shows in normals; the mean of what is as deep does not."""
    depth, image = scene()
    y, x = torch.meshgrid(torch.arange(48) / 40 - 0.6, torch.arange(64) / 40 - 0.6, indexing="ij")
    depth = torch.where(depth == 0, 0.3 - 0.25 * (1 - x**2 - y**2).clamp_min(0).sqrt(), 1.0)
    noise = 0.15 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    sharp = sharpen_edges(depth, (image + noise).clamp(0, 1))
    assert (sharp - depth)[..., 8:-8, 24:29].diff(dim=-2).abs().mean() < 5e-5


def test_scale_and_shift_of_the_depth_go_through():
    depth, image = scene()
    ramp = blurred(depth)
    torch.testing.assert_close(sharpen_edges(3 * ramp - 5, image), 3 * sharpen_edges(ramp, image) - 5)


@pytest.mark.parametrize("turned", [lambda map_: map_.flip(-1), lambda map_: map_.flip(-2), lambda map_: map_.mT])
def test_a_turned_picture_gives_the_turned_map(turned):
    depth, image = scene()
    depth = blurred(depth) + 0.3 * blurred(depth.flip(-1)).mean(-1, keepdim=True)
    torch.testing.assert_close(sharpen_edges(turned(depth), turned(image)), turned(sharpen_edges(depth, image)))


def test_an_image_does_not_depend_on_the_others_of_its_batch_or_on_chunks(monkeypatch):
    depth, image = scene()
    other = torch.rand(1, 1, 48, 64, generator=torch.Generator().manual_seed(0))
    both = sharpen_edges(torch.cat([blurred(depth), other]), torch.cat([image, image]))
    monkeypatch.setattr(edges, "_AT_ONCE", 100)
    assert torch.equal(both[:1], sharpen_edges(blurred(depth), image))
    assert torch.equal(both[1:], sharpen_edges(other, image))


def test_what_goes_in_is_left_as_it_was():
    depth, image = scene()
    ramp = blurred(depth)
    before = ramp.clone()
    sharpen_edges(ramp, image)
    assert torch.equal(ramp, before)


def test_the_median_is_the_value_with_which_half_of_the_weight_is_reached():
    values = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [5.0, 4.0, 4.5]])
    weight = torch.tensor([[1.0, 1.0, 1.0], [5.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    assert edges._weighted_median(values, weight).tolist() == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_an_enlarged_edge_is_the_pictures(factor):
    depth, image = scene(48 * factor, 64 * factor, wall_px=29 * factor + 1)
    small = sharpen_edges(*scene(48, 64, wall_px=29))
    sharp, plain = resize_sharply(small, image), enlarge(small, tuple(depth.shape[-2:]))
    assert sharp.shape == depth.shape
    assert torch.equal(sharp.round(), depth) and sharp.diff(dim=-1).amax((1, 2, 3)) > 0.6
    assert plain.diff(dim=-1).max() <= 0.5
    assert (sharp - depth).abs().mean() < (plain - depth).abs().mean()


def test_a_map_of_the_pictures_size_stays_as_it_is():
    depth, image = scene()
    assert torch.equal(resize_sharply(depth, image), depth)


@pytest.mark.parametrize("size", [(36, 48), (40, 60), (47, 65)])
def test_an_edge_of_a_map_that_is_made_smaller_is_the_pictures(size):
    depth, image = scene(48, 64, wall_px=29)
    small_depth, small_image = F.interpolate(depth, size, mode="nearest-exact"), shrink(image, size)
    sharp, plain = resize_sharply(depth, small_image), enlarge(depth, size)
    inner = (..., slice(2, -2), slice(2, -2))
    assert sharp.shape == plain.shape
    assert (sharp - small_depth)[inner].abs().mean() < 0.5 * (plain - small_depth)[inner].abs().mean()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_the_defaults_of_pytorch_make_no_difference(dtype):
    depth, image = scene()
    ramp = blurred(depth)
    sharp, large = sharpen_edges(ramp, image), resize_sharply(ramp, enlarge(image, (96, 128)))
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            assert torch.equal(sharpen_edges(ramp, image), sharp)
            assert torch.equal(resize_sharply(ramp, enlarge(image, (96, 128))), large)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_pictures_of_any_size_are_sharpened(size):
    depth = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    assert sharpen_edges(depth, torch.zeros(1, 3, *size)).shape == depth.shape
    for height, width in ((3 * size[0], 5 * size[1]), (1, 1), (2, 50)):
        assert resize_sharply(depth, torch.zeros(1, 3, height, width)).isfinite().all()


@pytest.mark.parametrize("image", [(1, 3, 48, 63), (2, 3, 48, 64), (1, 1, 48, 64)], ids=str)
def test_pictures_of_another_shape_are_refused(image):
    with pytest.raises(ValueError, match=r"Depth came as \[1, 1, 48, 64\] and pictures as"):
        sharpen_edges(scene()[0], torch.zeros(image))


@pytest.fixture(scope="module")
def photo():
    return scene(96, 128, wall_px=61)[1]


@pytest.mark.parametrize(("own", "sharpened"), [(192, True), (224, True), (256, False), (448, False)])
def test_models_of_few_pixels_sharpen_unless_told_otherwise(photo, own, sharpened):
    pipeline = load_pipeline("nano", dtype="float32")
    object.__setattr__(pipeline, "processing_resolution", own)  # of a frozen class
    on, off, auto = (
        pipeline(photo, EstimationSettings(num_steps=1, processing_resolution=64, sharpen_edges=choice))
        for choice in (True, False, None)
    )
    assert not torch.equal(on.log_depth, off.log_depth)
    assert torch.equal(auto.log_depth, (on if sharpened else off).log_depth)
    assert torch.equal(on.uncertainty, off.uncertainty)


def test_normals_are_of_the_sharpened_map(photo):
    on, off = (
        load_pipeline("nano", dtype="float32")(
            photo, EstimationSettings(num_steps=1, processing_resolution=64, sharpen_edges=choice)
        )
        for choice in (True, False)
    )
    small = shrink(photo, tuple(off.working_log_depth.shape[-2:]))
    assert torch.equal(on.working_log_depth, sharpen_edges(off.working_log_depth, small))
    assert torch.equal(on.log_depth, resize_sharply(on.working_log_depth, photo))


@pytest.mark.parametrize("value", ["yes", 2, 1.0], ids=repr)
def test_a_choice_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="sharpen_edges is .*True, False or None"):
        EstimationSettings(sharpen_edges=value)
