"""Depth painted with a color map.

The maps are matplotlib's, without matplotlib: each is stored as the few knots between which it is linear, and
agrees with the original's 256 colors within one 8-bit level.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Name: knots "position:rrggbb", positions from 0 to 255. Sources: spectral is ColorBrewer's (Cynthia Brewer, Mark
# Harrower, The Pennsylvania State University); viridis, magma, inferno and plasma are by Nathaniel Smith and Stefan van
# der Walt, https://bids.github.io/colormap; cividis by Nunez, Anderson and Renslow,
# https://doi.org/10.1371/journal.pone.0199239, from matplotlib; turbo by Anton Mikhailov, Google,
# https://research.google/blog/turbo-an-improved-rainbow-colormap-for-visualization. NOTICE.md has their licenses.
COLORMAPS = {
    "spectral": (
        "0:9e0142 25.5:d53e4f 51:f46d43 76.5:fdae61 102:fee08b 127.5:ffffbf 153:e6f598 178.5:abdda4 "
        "204:66c2a5 229.5:3288bd 255:5e4fa2"
    ),
    "viridis": (
        "0:440154 18:481b6d 34:472f7d 52:404588 83:31668e 127:21908d 141:1e9d89 154:23a983 166:2fb47c "
        "180:46c06f 195:65cb5e 215:95d840 236:cde11d 243:dfe318 248:ece51b 254:fbe723 255:fde725"
    ),
    "magma": (
        "0:000004 5:02020b 16:0a0822 32:1d1147 45:311165 54:400f74 66:54137d 90:792282 117:a5317e "
        "139:c83e73 154:df4a68 168:ef5d5e 178:f66e5c 189:fb835f 206:fea36f 229:fecd90 255:fcfdbf"
    ),
    "inferno": (
        "0:000004 4:02010a 11:060419 22:120a32 32:210c4a 40:2f0a5b 51:420a68 66:5a116e 88:7d1e6d 111:a22b62 "
        "131:c03a51 146:d44842 165:e9612b 185:f78212 194:fa9207 199:fb9b06 204:fca50a 213:fbb61a 226:f8cf3a "
        "235:f4e156 244:f1f179 251:f6fa96 255:fcffa4"
    ),
    "plasma": (
        "0:0d0887 7:20068f 26:43039e 49:6700a8 64:7e03a8 75:8e0ca4 93:a62098 123:c7427c 158:e56a5d "
        "188:f79044 215:feb72d 230:fcce25 243:f7e425 251:f2f227 254:f0f724 255:f0f921"
    ),
    "cividis": (
        "0:00224e 20:003070 23:013271 28:123570 37:233c6e 55:3a486c 92:5e626e 130:7e7d78 158:999277 "
        "191:bbad6d 219:d9c55c 239:efd748 249:fbe138 251:fde334 254:fee636 255:fee838"
    ),
    "turbo": (
        "0:30123b 7:38276d 14:3f3b97 22:4451bf 29:4664da 36:4776ee 43:4687fb 48:4294ff 54:3aa3fc 61:2eb4f2 "
        "72:1ccdd8 79:18dbc5 84:19e3b9 90:22ebaa 98:38f491 110:65fd69 120:8bff4b 126:9ffd3f 132:affa37 "
        "140:c3f134 150:dbe236 160:eecf3a 169:f9bc39 178:fea732 188:fd8a26 199:f56918 210:e84b0c 221:d63506 "
        "233:bc2002 246:980e01 255:7a0403"
    ),
    "gray": "0:000000 255:ffffff",
}


def colorize(depth: Tensor, colormap: str = "spectral", invert: bool = False) -> Tensor:
    """Depth in colors: [B, 3, H, W] RGB in [0, 1]; 0 (nearest) takes the first color, 1 (farthest) the last.

    So "spectral" shows near in red and far in blue, as in the papers of this field, and "gray" near in black.

    Args:
        depth: [B, 1, H, W] in [0, 1].
        colormap: a key of `COLORMAPS`; colors between its entries are interpolated linearly.
        invert: paints 1 - depth.

    Raises:
        ValueError: unknown color map, another shape, or values outside of [0, 1].
    """
    if colormap not in COLORMAPS:
        raise ValueError(f"Unknown color map {colormap!r}; choose one of {', '.join(COLORMAPS)}.")
    if depth.ndim != 4 or depth.shape[1] != 1:
        raise ValueError(f"depth must be [B, 1, H, W], but came as {list(depth.shape)}.")
    if not ((depth >= 0) & (depth <= 1)).all():  # NaN fails too
        raise ValueError(
            f"depth must lie in [0, 1], but came with {depth.amin():.4g} to {depth.amax():.4g}; "
            "pass prediction.depth, or scale it."
        )
    table = _table(colormap).to(depth.device)
    position = (1 - depth.float() if invert else depth.float()) * 255
    low = position.int().clamp_max_(254)
    share = position.sub_(low)
    image = position.new_empty(len(depth), 3, *depth.shape[2:])
    for channel, colors in enumerate(table):
        # plane by plane, which is three times as fast as colors of three values
        lower, upper = (part.index_select(0, low.flatten()) for part in (colors[:-1], colors[1:]))
        image[:, channel : channel + 1] = lower.lerp_(upper, share.flatten()).view_as(depth)
    return image


def _table(colormap: str) -> Tensor:
    """The map's 256 colors: [3, 256] in [0, 1]."""
    knots = [knot.split(":") for knot in COLORMAPS[colormap].split()]
    positions = [float(position) for position, _ in knots]
    colors = np.array([list(bytes.fromhex(color)) for _, color in knots]) / 255  # [knots, 3]
    channels = [np.interp(np.arange(256), positions, channel) for channel in colors.T]
    return torch.from_numpy(np.stack(channels)).float()
