import pytest
import torch

from depthfm_core.resize import MAX_ASPECT, fit

SIZES = [(1, 1), (1, 7), (17, 4001), (63, 65), (64, 64), (480, 640), (241, 119)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resolution", [0, 64, 96])
def test_any_size_becomes_a_multiple_and_comes_back_exactly(size, resolution):
    image = torch.rand(1, 3, *size)
    fitted, frame = fit(image, resolution, 32)
    assert all(side % 32 == 0 and side > 0 for side in fitted.shape[-2:])
    assert frame.undo(fitted[:, :1]).shape == (1, 1, *size)


@pytest.mark.parametrize("size", [(48, 64), (50, 70), (1, 1), (3, 90)])
def test_native_resolution_is_undone_to_the_last_bit(size):
    image = torch.rand(2, 3, *size)
    fitted, frame = fit(image, 0, 64)
    assert torch.equal(frame.undo(fitted), image)


def test_the_short_side_becomes_the_resolution_and_the_aspect_is_kept():
    _, frame = fit(torch.zeros(1, 3, 480, 640), 192, 64)
    assert frame.working_size == (192, 256)
    _, frame = fit(torch.zeros(1, 3, 900, 300), 100, 64)
    assert frame.working_size == (300, 100)


def test_a_very_long_image_is_bounded_by_its_long_side():
    _, frame = fit(torch.zeros(1, 3, 17, 4001), 96, 32)
    assert frame.working_size == (round(17 * MAX_ASPECT * 96 / 4001), MAX_ASPECT * 96)


def test_a_ramp_survives_the_way_there_and_back():
    ramp = torch.linspace(0, 1, 640).expand(1, 3, 480, 640)
    for resolution in (96, 512, 600):
        fitted, frame = fit(ramp, resolution, 64)
        torch.testing.assert_close(frame.undo(fitted), ramp, rtol=0, atol=0.01)


def test_padding_is_a_reflection():
    row = torch.arange(5.0).expand(1, 1, 1, 5)
    fitted, frame = fit(row, 0, 8)
    assert frame.padding == (1, 2, 3, 4)
    assert fitted[0, 0, 0].tolist() == [1, 0, 1, 2, 3, 4, 3, 2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.uint8])
def test_padding_keeps_every_column_of_a_wide_picture_in_any_dtype(dtype):
    picture = (torch.arange(4 * 2100) % 251).reshape(1, 1, 4, 2100).to(dtype)
    fitted, frame = fit(picture, 0, 64)
    assert fitted.shape[-2:] == (64, 2112) and torch.equal(fitted[..., 30:34, 6:2106], picture)


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
