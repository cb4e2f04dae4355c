import pytest
import torch
import torch.nn.functional as F

from depthfm_core.resize import MAX_ASPECT, MAX_STRETCH, enlarge, extend, fit, resize_long_side, shrink

SIZES = [(1, 1), (1, 7), (17, 4001), (63, 65), (64, 64), (480, 640), (241, 119)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resolution", [0, 64, 96])
def test_any_size_becomes_a_multiple_and_comes_back_exactly(size, resolution):
    image = torch.rand(1, 3, *size)
    fitted, placement = fit(image, resolution, 32)
    assert all(side % 32 == 0 and side > 0 for side in fitted.shape[-2:])
    assert placement.undo(fitted[:, :1]).shape == (1, 1, *size)


@pytest.mark.parametrize("size", [(48, 64), (50, 70), (1, 1), (3, 90)])
def test_native_resolution_is_undone_to_the_last_bit(size):
    image = torch.rand(2, 3, *size)
    fitted, placement = fit(image, 0, 64)
    assert torch.equal(placement.undo(fitted), image)


def test_the_short_side_becomes_the_resolution_and_the_aspect_is_kept():
    _, placement = fit(torch.zeros(1, 3, 480, 640), 192, 64)
    assert placement.working_size == (192, 256) and not any(placement.padding)
    _, placement = fit(torch.zeros(1, 3, 900, 300), 100, 64)
    assert placement.working_size == (300, 100)


@pytest.mark.parametrize(("resolution", "multiple"), [(192, 32), (384, 64)])
def test_no_picture_whose_short_side_is_the_models_is_padded_or_stretched_much(resolution, multiple):
    for long_px in range(1000, 3000, 7):
        _, placement = fit(torch.zeros(1, 1, 1000, long_px), resolution, multiple)
        assert not any(placement.padding) and placement.working_size[0] == resolution
        assert placement.working_size[1] == pytest.approx(resolution * long_px / 1000, rel=MAX_STRETCH - 1, abs=0.6)


def test_a_picture_far_from_every_multiple_is_padded_and_keeps_its_aspect():
    _, placement = fit(torch.zeros(1, 3, 1000, 1000), 80, 32)
    assert placement.working_size == (80, 80) and placement.padding == (8, 8, 8, 8)


def test_a_very_long_image_is_bounded_by_its_long_side():
    _, placement = fit(torch.zeros(1, 3, 17, 4001), 96, 32)
    assert placement.working_size == (round(17 * MAX_ASPECT * 96 / 4001), MAX_ASPECT * 96)


def test_a_ramp_survives_the_way_there_and_back():
    ramp = torch.linspace(0, 1, 640).expand(1, 3, 480, 640)
    for resolution in (96, 512, 600):
        fitted, placement = fit(ramp, resolution, 64)
        torch.testing.assert_close(placement.undo(fitted), ramp, rtol=0, atol=0.01)


def test_padding_is_a_reflection():
    row = torch.arange(5.0).expand(1, 1, 1, 5)
    fitted, placement = fit(row, 0, 8)
    assert placement.padding == (1, 2, 3, 4)
    assert fitted[0, 0, 0].tolist() == [1, 0, 1, 2, 3, 4, 3, 2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.uint8])
def test_padding_keeps_every_column_of_a_wide_picture_in_any_dtype(dtype):
    picture = (torch.arange(4 * 2100) % 251).reshape(1, 1, 4, 2100).to(dtype)
    fitted, placement = fit(picture, 0, 64)
    assert fitted.shape[-2:] == (64, 2112) and torch.equal(fitted[..., 30:34, 6:2106], picture)


def test_a_map_is_shrunk_to_a_column_as_it_is_to_a_row():
    ramp = torch.linspace(0, 1, 768).expand(1, 1, 3, 768)
    row = enlarge(ramp, (1, 300))
    assert (row - ((torch.arange(300) + 0.5) / 300)).abs().max() < 0.002  # the centers of its pixels
    assert torch.allclose(enlarge(ramp.mT, (300, 1)), row.mT, atol=1e-6)


def test_shrinking_does_not_alias():
    checkerboard = (torch.arange(256)[:, None] + torch.arange(256)) % 2.0
    fitted, _ = fit(checkerboard.expand(1, 3, 256, 256), 64, 32)
    assert (fitted - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("resolution", [-1, 20000])
def test_an_impossible_resolution_is_refused(resolution):
    with pytest.raises(ValueError, match="processing_resolution"):
        fit(torch.zeros(1, 3, 8, 8), resolution, 64)


@pytest.mark.parametrize("size", [(0, 5), (1, 16385)])
def test_an_impossible_image_is_refused(size):
    with pytest.raises(ValueError, match="16384"):
        fit(torch.zeros(1, 3, *size), 0, 64)


@pytest.mark.parametrize("size", [(480, 640), (500, 701), (1000, 333)])
def test_a_sloping_map_is_enlarged_to_the_same_slope_up_to_the_rim(size):
    _, placement = fit(torch.zeros(1, 1, *size), 96, 32)
    height, width = placement.working_size

    def plane(height, width):
        y, x = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
        return (0.3 * x - 0.8 * y[:, None])[None, None]

    torch.testing.assert_close(placement.enlarge(plane(height, width)), plane(*size), rtol=0, atol=1e-5)


def test_enlarging_agrees_with_linear_interpolation_between_the_centers_of_cells():
    cells = torch.rand(2, 1, 40, 50, generator=torch.Generator().manual_seed(0))
    _, placement = fit(torch.zeros(1, 1, 100, 125), 40, 1)
    wanted = F.interpolate(cells, (100, 125), mode="bilinear", align_corners=False)
    inside = (..., slice(2, -2), slice(2, -2))  # half a cell is 1.25 pixels
    torch.testing.assert_close(placement.enlarge(cells)[inside], wanted[inside], rtol=0, atol=1e-5)


def test_an_extended_map_goes_on_by_its_slope_and_is_where_it_was():
    plane = (0.3 * torch.arange(12) - 0.8 * torch.arange(9)[:, None])[None, None]
    left, right, top, bottom = margins = (1, 2, 3, 0)
    extended = extend(plane[..., top:9, left : 12 - right], margins)
    torch.testing.assert_close(extended, plane, rtol=0, atol=1e-5)
    assert torch.equal(extended[..., top:, left : 12 - right], plane[..., top:, left : 12 - right])
    step = torch.tensor([0.0, 1.0, 1.0, 1.0]).expand(1, 1, 4, 4)
    assert extend(step, (4, 4, 4, 4)).min() == 0  # an edge beside the rim does not go on


@pytest.mark.parametrize(
    "row",
    [[0.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.5, 0.5], [0.1, 0.2, 1.0, 1.0], [0.5, 0.5, 0.0, 1.0]],
)
def test_an_edge_beside_the_rim_does_not_overshoot(row):
    _, placement = fit(torch.zeros(1, 1, 40, 40), 4, 1)
    enlarged = placement.enlarge(torch.tensor(row).expand(1, 1, 4, 4))
    assert enlarged.min() >= 0 and enlarged.max() <= 1


def test_a_slope_goes_on_to_the_rim_no_steeper_than_it_came():
    _, placement = fit(torch.zeros(1, 1, 40, 40), 4, 1)
    row = torch.tensor([1.0, 0.2, 0.1, 0.0])  # an edge a cell before the rim, and a slope
    assert 1 < placement.enlarge(row.expand(1, 1, 4, 4)).amax() <= 1.05  # half a cell of the slope


def test_a_map_that_turns_beside_the_rim_ends_level():
    _, placement = fit(torch.zeros(1, 1, 40, 40), 4, 1)
    row = torch.tensor([0.5, 0.4, 1.0, 1.0])  # goes on neither down nor up
    assert placement.enlarge(row.expand(1, 1, 4, 4))[..., :5].eq(0.5).all()


def test_a_map_of_few_cells_is_enlarged_too():
    for cells in (1, 2, 3):
        _, placement = fit(torch.zeros(1, 1, 8 * cells, 16), cells, 1)
        assert placement.enlarge(torch.full((1, 1, *placement.working_size), 0.5)).eq(0.5).all()


def test_a_picture_smaller_than_the_working_size_is_shrunk_back_without_aliasing():
    _, placement = fit(torch.zeros(1, 1, 20, 30), 100, 1)
    checkerboard = ((torch.arange(100)[:, None] + torch.arange(150)) % 2.0)[None, None]
    assert (placement.enlarge(checkerboard) - 0.5).abs().max() < 0.1


@pytest.mark.parametrize(("size", "side", "expected"), [((480, 640), 768, (576, 768)), ((33, 62), 31, (16, 31))])
def test_the_long_side_is_brought_to_its_size_from_either_direction(size, side, expected):
    assert resize_long_side(torch.rand(1, 3, *size), side).shape[-2:] == expected
    assert resize_long_side(torch.rand(1, 3, *size), 0).shape[-2:] == size


def test_white_stays_white_at_every_size():
    """Sums of the filter's weights are not 1 to the last bit, and who gets a picture refuses more than 1."""
    white = torch.ones(1, 3, 480, 641)
    assert F.interpolate(white, (479, 640), mode="bilinear", antialias=True).amax() > 1
    assert resize_long_side(white, 640).amax() == 1


@pytest.mark.parametrize("size", [(10, 13), (60, 80), (1, 7), (30, 1)])
def test_a_picture_is_resized_as_pytorch_does_and_one_of_a_single_column_as_one_of_a_single_row(size):
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    resized = shrink(image, size)
    if size[1] > 1:
        assert torch.equal(resized, F.interpolate(image, size, mode="bilinear", antialias=True))
    torch.testing.assert_close(resized.mT, shrink(image.mT, size[::-1]), atol=1e-6, rtol=0)
