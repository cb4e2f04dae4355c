import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from depthfm_core.model import winograd
from depthfm_core.model.winograd import DOUBLED, PLAIN, convolve, pays, scale_and_shift

CHANNELS, RESULTS = 24, 16


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that a picture is several blocks, and a block several rows of tiles."""
    monkeypatch.setattr(winograd, "_BLOCK_VALUES", 20 * CHANNELS)


@pytest.fixture
def conv():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Conv2d(CHANNELS, RESULTS, 3, padding=1).requires_grad_(False)


def features(*size, batch=2, channels=CHANNELS):
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


def doubled(image):
    return F.interpolate(image, scale_factor=2.0, mode="nearest")


def exact(image, conv):
    return F.conv2d(image.double(), conv.weight.double(), conv.bias.double(), padding=1).float()


LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(4, 4), (8, 12), (24, 16), (4, 96), (96, 4)])
def test_a_convolution_up_to_the_borders(conv, size, layout):
    image = features(*size).contiguous(memory_format=layout)
    result = convolve(image, conv.weight, conv.bias[None])
    torch.testing.assert_close(result, exact(image, conv), rtol=1e-4, atol=1e-5)
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(2, 2), (6, 10), (12, 8), (2, 50), (50, 2)])
def test_doubling_and_a_convolution_up_to_the_borders(conv, size, layout):
    image = features(*size).contiguous(memory_format=layout)
    result = convolve(image, conv.weight, conv.bias[None], DOUBLED)
    torch.testing.assert_close(result, exact(doubled(image), conv), rtol=1e-4, atol=1e-5)


def test_the_products_are_a_quarter_and_for_a_doubled_picture_fewer():
    assert (len(PLAIN.data), len(DOUBLED.data)) == (36, 25)  # of 144 for 16 pixels


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_images_do_not_mix(conv, batch):
    image = features(8, 8, batch=batch)
    together = convolve(image, conv.weight, conv.bias[None])
    apart = torch.cat([convolve(one, conv.weight, conv.bias[None]) for one in image.split(1)])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_a_bias_of_each_image(conv):
    image, bias = features(8, 8, batch=5), features(batch=5, channels=RESULTS)
    expected = convolve(image, conv.weight, torch.zeros(1, RESULTS)) + bias[:, :, None, None]
    torch.testing.assert_close(convolve(image, conv.weight, bias), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_onto_is_added_to_in_place(conv, layout):
    image, onto = features(8, 16), features(8, 16, channels=RESULTS).contiguous(memory_format=layout)
    expected = onto + exact(image, conv)
    result = convolve(image, conv.weight, conv.bias[None], onto=onto)
    assert result.data_ptr() == onto.data_ptr()
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1000.0])  # where a difference of squares would have no digits left
def test_normalized_activated_and_convolved(conv, offset):
    image = features(12, 8, batch=3) * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None] + offset
    norm = nn.GroupNorm(8, CHANNELS).requires_grad_(False)
    norm.weight.copy_(torch.linspace(-1, 2, CHANNELS))
    norm.bias.copy_(torch.linspace(1, -1, CHANNELS))
    expected = exact(F.silu(norm.double()(image.double())), conv)
    activation = scale_and_shift(image, norm.float())
    tolerance = 1e-4 if offset == 0 else 2e-2  # float32 holds 1000 to 6e-5, which is divided by down to 0.1
    result = convolve(image, conv.weight, conv.bias[None], activation=activation)
    torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)


def large_conv():
    return nn.Conv2d(128, 128, 3, padding=1).requires_grad_(False)


@pytest.mark.parametrize(
    ("size", "reason"),
    [((32, 32), "too few tiles"), ((64, 66), "no whole tiles"), ((64, 62), "no whole tiles")],
)
def test_other_sizes_are_left_to_pytorch(size, reason):
    assert pays(torch.empty(1, 128, 64, 64), large_conv())
    assert not pays(torch.empty(1, 128, *size), large_conv()), reason


def test_what_it_does_not_compute_is_left_to_pytorch():
    image, conv = torch.empty(1, 128, 64, 64), large_conv()
    assert not pays(image.bfloat16(), conv)
    assert not pays(image.double(), conv)
    assert not pays(image.to("meta"), conv)
    assert not pays(image[:, :64], nn.Conv2d(64, 128, 3, padding=1).requires_grad_(False))
    assert not pays(torch.empty(1, 1280, 64, 64), nn.Conv2d(1280, 1280, 3, device="meta").requires_grad_(False))
    assert not pays(image.requires_grad_(), conv)
    assert not pays(image.detach(), conv.requires_grad_())
    with torch.no_grad():
        assert pays(image, conv)


def test_results_in_and_out_of_inference_mode_and_in_other_threads_are_the_same(conv):
    def result():
        return convolve(features(8, 8), conv.weight, conv.bias[None])

    with torch.inference_mode():
        first = result().clone()
    torch.testing.assert_close(result(), first, rtol=0, atol=0)
    results = []
    threads = [threading.Thread(target=lambda: results.extend(result() for _ in range(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    assert all(torch.equal(one, first) for one in results)
