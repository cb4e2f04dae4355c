"""The picture of an image's errors: what each of its four panels shows."""

import torch

from depthfm_core.depth.color import colorize
from depthfm_core.evaluation import pictures
from depthfm_core.evaluation.pictures import LARGEST_ERROR, error_picture

HEIGHT, WIDTH = 480, 640
NEAR_M, FAR_M = 1.0, 3.0


def halves(left, right):
    values = torch.full((1, HEIGHT, WIDTH), float(left))
    values[..., WIDTH // 2 :] = right
    return values


def panels(target_m, valid, depth_m):
    """Image, measured depth, estimate, error: [3, 240, 320] each."""
    gray = torch.full((3, HEIGHT, WIDTH), 0.5)
    return error_picture(gray, target_m, valid, depth_m.double()).chunk(4, dim=2)


def color(value, colormap="spectral"):
    return colorize(torch.full((1, 1, 1, 1), float(value)), colormap).flatten()


def assert_color(panel, rows, columns, expected):
    torch.testing.assert_close(panel[:, rows, columns], expected, atol=1e-4, rtol=0)


def test_depth_is_painted_over_its_own_range_and_error_up_to_the_largest_that_is_shown():
    everywhere = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    estimate = halves(NEAR_M * (1 + LARGEST_ERROR / 2), FAR_M * (1 + 3 * LARGEST_ERROR))
    image, measured, estimated, error = panels(halves(NEAR_M, FAR_M), everywhere, estimate)
    assert_color(image, 120, 80, torch.full((3,), 0.5))
    for column, depth, of_estimate, wrong in ((80, 0, (estimate[0, 0, 0] - NEAR_M) / 2, 0.5), (240, 1, 1, 1)):
        assert_color(measured, 120, column, color(depth))
        assert_color(estimated, 120, column, color(of_estimate))
        assert_color(error, 120, column, color(wrong, "magma"))


def test_what_was_not_measured_is_black_and_has_no_part_in_a_color():
    valid = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    valid[:, HEIGHT // 2 :, ::2] = True  # every second pixel of the lower half
    target_m = halves(NEAR_M, FAR_M).where(valid, 1000.0)
    _, measured, estimated, error = panels(target_m, valid, halves(NEAR_M, FAR_M))
    for panel, where in ((measured, 60), (error, 60)):
        assert_color(panel, where, 80, torch.zeros(3))
    assert_color(measured, 180, 80, color(0) / 2)
    assert_color(measured, 180, 240, color(1) / 2)
    assert_color(error, 180, 80, color(0, "magma") / 2)
    assert_color(estimated, 60, 240, color(1))


def test_no_map_is_painted_at_its_own_size(monkeypatch):
    heights = []

    def counting(values, *colormap):
        heights.append(values.shape[-2])
        return colorize(values, *colormap)

    monkeypatch.setattr(pictures, "colorize", counting)
    panels(halves(NEAR_M, FAR_M), torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool), halves(NEAR_M, FAR_M))
    assert heights == [pictures.HEIGHT_PX] * 3
