"""3x3 convolutions with a quarter of the products: Winograd's minimal filtering, in blocks that stay in the cache.

Four by four pixels of the output come of six by six of the input. Both, and the kernel, are transformed; then 36
products a pair of channels do what 144 did. In float32 on a CPU, where products are what takes time, that is 1.3 to 2.4
times as fast as PyTorch's convolution (two cores with AVX-512, 128 to 640 channels). The rounding error is about twice
as large.

Source: Lavin & Gray 2016 (Fast Algorithms for Convolutional Neural Networks), F(4x4, 3x3).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

_TILE = 4  # pixels of the output to a side
_BLOCK_VALUES = 65_536  # tiles times channels at a time: 9 MB once they are transformed
# Below these, what the transformations cost is more than what is gained.
_FEWEST_TILES = 128
_FEWEST_CHANNELS = 128
_MOST_KERNEL_VALUES = 2**24  # of a transformed kernel, which are four times the kernel's: 64 MB
_SCRATCH = threading.local()


class Scheme(NamedTuple):
    """How tiles are cut and transformed; P products a tile.

    Attributes:
        data: [P, S * S], from a tile of the input.
        kernel: [P, 9], from a kernel.
        result: [16, P], to a tile of the output.
        size: S, the pixels of a tile of the input to a side.
        stride: from one tile of the input to the next.
    """

    data: Tensor
    kernel: Tensor
    result: Tensor
    size: int
    stride: int


def _one_dimension(first: float, second: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[6, 6], [6, 3] and [4, 6] with result @ ((kernel @ g) * (data @ d)) = the four sums of g[k] * d[i + k].

    The points are 0, the two numbers, their negatives and infinity.
    """
    points = (0.0, first, -first, second, -second)
    powers = np.array([[point**power for power in range(_TILE)] for point in points])
    factors = np.array([np.prod([one - other for other in points if other != one]) for one in points])
    infinite = np.eye(_TILE)[-1:]
    result = np.concatenate([powers, infinite]).T
    kernel = np.concatenate([powers[:, :3] / factors[:, None], infinite[:, 1:]])
    sums = np.einsum("ip,pk->ikp", result, kernel).reshape(-1, 6)
    wanted = np.array([np.eye(6)[i + k] for i in range(_TILE) for k in range(3)])
    return np.linalg.lstsq(sums, wanted, rcond=None)[0], kernel, result


def _scheme(points: tuple[float, float], pixels: list[int]) -> Scheme:
    """A scheme whose tiles of six pixels to a side are made of these of the input; products with 0 are left out."""
    data, kernel, result = _one_dimension(*points)
    data = data @ np.eye(pixels[-1] + 1)[pixels]
    used = np.abs(data).max(1) > 1e-9
    both = (np.kron(side, side) for side in (data[used], kernel[used], result[:, used]))
    size = pixels[-1] + 1
    return Scheme(*(torch.from_numpy(matrix).float() for matrix in both), size, size - 2)


# The points are those of the smallest rounding error among some that were tried.
PLAIN = _scheme((0.5**0.5, 2**0.5), [0, 1, 2, 3, 4, 5])
# For the picture doubled by the nearest pixel. With the point 1, the one at -1 sees nothing: 25 products instead of 36.
DOUBLED = _scheme((1.0, 1.7), [0, 1, 1, 2, 2, 3])


def pays(features: Tensor, conv: nn.Conv2d, scheme: Scheme = PLAIN) -> bool:
    """Whether `convolve` is for this convolution of these features, and faster than the convolution itself."""
    batch, channels, height, width = features.shape
    fits = height % scheme.stride == 0 and width % scheme.stride == 0
    tiles = batch * height * width // scheme.stride**2
    on_cpu = features.device.type == "cpu" and features.dtype == torch.float32
    large = tiles >= _FEWEST_TILES and min(channels, conv.out_channels) >= _FEWEST_CHANNELS
    small = len(scheme.kernel) * channels * conv.out_channels <= _MOST_KERNEL_VALUES
    learns = torch.is_grad_enabled() and (features.requires_grad or conv.weight.requires_grad)
    return on_cpu and fits and large and small and not learns


def convolve(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    scheme: Scheme = PLAIN,
    activation: tuple[Tensor, Tensor] | None = None,
    onto: Tensor | None = None,
) -> Tensor:
    """A 3x3 convolution of stride 1, padded with zeros, for inference.

    Args:
        features: [B, C, h, w] float32, sides multiples of `scheme.stride`.
        weight: [D, C, 3, 3].
        bias: [B or 1, D].
        scheme: `PLAIN`, or `DOUBLED` to double the picture by the nearest pixel first.
        activation: scale and shift, [B, C] each, after which SiLU is taken of what is convolved.
        onto: [B, D, h, w], or [B, D, 2h, 2w] of the doubled picture, to which the result is added in place.

    Returns:
        `onto`, or a new tensor of its size, channels last.
    """
    batch, channels, height, width = features.shape
    rows, columns = height // scheme.stride, width // scheme.stride
    if onto is None:
        output = features.new_empty(batch, _TILE * rows, _TILE * columns, len(weight))
    else:
        output = _channels_last(onto)
    write = Tensor.copy_ if onto is None else Tensor.add_
    kernels = _transformed_kernels(weight, scheme)
    for images, block in _blocks(batch, rows, columns, _BLOCK_VALUES // max(channels, len(weight))):
        scale_shift = activation and [one[images] for one in activation]
        padded = _padded(_channels_last(features[images]), block, scheme, scale_shift)
        products = torch.bmm(_transformed_tiles(padded, scheme), kernels)  # [P, tiles, D]
        place = output[images, _TILE * block.start : _TILE * block.stop]
        _write_results(write, place, products, scheme, bias.expand(batch, -1)[images])
    return rearrange(output, "b h w d -> b d h w")


def _channels_last(features: Tensor) -> Tensor:
    return rearrange(features, "b c h w -> b h w c")


def _transformed_kernels(weight: Tensor, scheme: Scheme) -> Tensor:
    """[P, C, D]."""
    taps = rearrange(weight, "d c y x -> (y x) (c d)")
    transformed = _scratch(len(scheme.kernel), taps.shape[1])
    return torch.mm(scheme.kernel, taps, out=transformed).unflatten(1, (-1, len(weight)))


def _scratch(rows: int, columns: int) -> Tensor:
    """Memory of this thread, the same for all calls: touching new memory takes longer than what is done in it."""
    if not hasattr(_SCRATCH, "values") or len(_SCRATCH.values) < rows * columns:
        with torch.inference_mode(False):  # where it may be made, but is not always used
            _SCRATCH.values = torch.empty(rows * columns, dtype=torch.float32, device="cpu")
    return _SCRATCH.values[: rows * columns].view(rows, columns)


def _blocks(batch: int, rows: int, columns: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Which images and rows of tiles go together, so that there are no more than so many tiles if possible."""
    images = max(1, most // (rows * columns))
    rows_at_once = max(1, min(rows, most // columns))
    for image in range(0, batch, images):
        for row in range(0, rows, rows_at_once):
            yield slice(image, min(image + images, batch)), slice(row, min(row + rows_at_once, rows))


def _padded(features: Tensor, rows: slice, scheme: Scheme, activation: Sequence[Tensor] | None) -> Tensor:
    """What these rows of tiles see of [B, h, w, C], activated, with zeros around the picture."""
    batch, height, width, channels = features.shape
    top, bottom = rows.start * scheme.stride - 1, rows.stop * scheme.stride + 1
    inner = slice(max(top, 0), min(bottom, height))
    padded = features.new_empty(batch, bottom - top, width + 2, channels)
    for border in (padded[:, : inner.start - top], padded[:, inner.stop - top :], padded[:, :, 0], padded[:, :, -1]):
        border.zero_()
    inside = padded[:, inner.start - top : inner.stop - top, 1:-1]
    if activation is None:
        inside.copy_(features[:, inner])
    else:
        scale, shift = (one[:, None, None] for one in activation)
        F.silu(torch.addcmul(shift, features[:, inner], scale, out=inside), inplace=True)
    return padded


def _transformed_tiles(padded: Tensor, scheme: Scheme) -> Tensor:
    """[P, B * tiles, C], a row of tiles at a time."""
    tiles = padded.unfold(1, scheme.size, scheme.stride).unfold(2, scheme.size, scheme.stride)
    tiles = rearrange(tiles, "b y x c p q -> b y p q x c")
    batch, rows, _, _, columns, channels = tiles.shape
    transformed = padded.new_empty(len(scheme.data), batch * rows, columns * channels)
    for index in range(batch * rows):
        row = tiles[index // rows, index % rows].reshape(scheme.size**2, -1)
        torch.mm(scheme.data, row, out=transformed[:, index])
    return transformed.view(len(scheme.data), -1, channels)


def _write_results(
    write: Callable[[Tensor, Tensor], Tensor], output: Tensor, products: Tensor, scheme: Scheme, bias: Tensor
) -> None:
    """Transforms products [P, B * tiles, D] and writes them to [B, h, w, D], a row of tiles at a time."""
    places = rearrange(output, "b (y p) (x q) d -> b y p q x d", p=_TILE, q=_TILE)
    batch, rows, _, _, columns, channels = places.shape
    products = products.view(len(products), batch * rows, columns * channels)
    for index in range(batch * rows):
        place = places[index // rows, index % rows]
        result = (scheme.result @ products[:, index]).view(place.shape)
        write(place, result.add_(bias[index // rows]))


def scale_and_shift(features: Tensor, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """What a group normalization multiplies the features [B, C, h, w] by and adds, [B, C] each.

    In two passes, which keeps the digits that a variance as a difference of squares would lose. Sums are matrix
    products, which take a fraction of `sum`'s time.
    """
    pixels = rearrange(features, "b c h w -> b (h w) c")
    batch, count, channels = pixels.shape
    per_group = channels // norm.num_groups
    ones = pixels.new_ones(batch, 1, count)

    def mean_of_groups(sums: Tensor) -> Tensor:
        """[B, 1, C] sums over pixels to the mean of each channel's group."""
        means = sums.unflatten(2, (-1, per_group)).mean(3, keepdim=True) / count
        return means.expand(-1, -1, -1, per_group).flatten(2)

    mean = mean_of_groups(torch.bmm(ones, pixels))
    squares = torch.zeros_like(mean)
    for part in pixels.split(max(1, 4 * _BLOCK_VALUES // channels), 1):
        squares += torch.bmm(ones[:, :, : part.shape[1]], (part - mean).square_())
    scale = norm.weight * (mean_of_groups(squares) + norm.eps).rsqrt()
    return scale[:, 0], (norm.bias - mean * scale)[:, 0]
