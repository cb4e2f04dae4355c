"""Procedural surface patterns, evaluated at the hit point of a ray (numba kernels).

There are no texture files: a pattern is a formula of the surface coordinates in metres. Each one is told
the footprint of the pixel on the surface and fades its details away where they would alias.
"""

import math

from numba import njit

# Columns of a material row (see synthetic_materials.py, which fills them).
PATTERN, SCALE_U, SCALE_V, COLOR_A, COLOR_B, COLOR_C = 0, 1, 2, 3, 6, 9
CONTRAST, SEED, BOND, LINE, SPECULAR, SHININESS, MIRROR, EMISSION, SHARED = range(12, 21)

PLAIN, WOOD, TILES, NOISE, STRIPES, MARBLE, WEAVE, PLAID, POSTER, SPINE, VIEW, FACADE, DOTS = range(13)


@njit(cache=True, fastmath=True)
def hash01(a, b, c):
    """Pseudo-random number in [0, 1) of three integers."""
    h = (a * 374761393 + b * 668265263 + c * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 3266489917) & 0xFFFFFFFF
    return (h ^ (h >> 16)) / 4294967296.0


@njit(cache=True, fastmath=True)
def noise(u, v, seed):
    """Smooth value noise in [0, 1] with unit wavelength."""
    i, j = int(math.floor(u)), int(math.floor(v))
    a, b = u - i, v - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    low = hash01(i, j, seed) * (1 - a) + hash01(i + 1, j, seed) * a
    high = hash01(i, j + 1, seed) * (1 - a) + hash01(i + 1, j + 1, seed) * a
    return low * (1 - b) + high * b


@njit(cache=True, fastmath=True)
def fractal(u, v, footprint, octaves, seed):
    """Sum of halving octaves of noise in [0, 1]; octaves finer than the footprint give way to their mean."""
    total, weight, reach = 0.0, 0.5, footprint
    for k in range(octaves):
        keep = min(1.0, max(0.0, 2.0 - 2.5 * reach))
        if keep > 0.0:
            total += weight * (0.5 + keep * (noise(u, v, seed + k) - 0.5))
        else:
            total += weight * 0.5
        u, v, reach, weight = u * 2.03 + 3.1, v * 2.03 + 7.7, reach * 2.03, weight * 0.5
    return total + weight


@njit(cache=True, fastmath=True)
def line(distance, half_width, footprint):
    """How much of a pixel a line of the given half width covers, in [0, 1]."""
    cover = (half_width + 0.5 * footprint - abs(distance)) / max(footprint, 1e-5)
    return min(1.0, max(0.0, cover)) * min(1.0, 2.0 * half_width / max(footprint, 1e-5))


@njit(cache=True, fastmath=True)
def to_edge(x, period):
    """Distance in metres to the nearest multiple of the period."""
    r = x - period * math.floor(x / period)
    return min(r, period - r)


@njit(cache=True, fastmath=True)
def cell_pattern(m, u, v, footprint, seed):
    """Tiles and bricks: (tone of the cell in [0, 1], cover of the joint in [0, 1])."""
    row = int(math.floor(v / m[SCALE_V]))
    u += m[BOND] * m[SCALE_U] * (row & 1)
    column = int(math.floor(u / m[SCALE_U]))
    joint = max(line(to_edge(u, m[SCALE_U]), m[LINE], footprint), line(to_edge(v, m[SCALE_V]), m[LINE], footprint))
    grain = fractal(u * 9.0, v * 9.0, footprint * 9.0, 3, seed)
    keep = min(1.0, max(0.0, 1.5 - footprint / min(m[SCALE_U], m[SCALE_V])))
    tone = 0.5 + keep * (hash01(row, column, seed) - 0.5)
    return m[CONTRAST] * tone + 0.3 * grain, joint


@njit(cache=True, fastmath=True)
def wood_pattern(m, u, v, footprint, seed):
    """Planks along u: (tone, cover of the gaps)."""
    row = int(math.floor(v / m[SCALE_V]))
    u += hash01(row, 5, seed) * m[SCALE_U]
    column = int(math.floor(u / m[SCALE_U]))
    tone = hash01(row, column, seed)
    shift = 40.0 * tone
    warp = fractal(u * 1.1 + shift, v * 5.0, footprint * 5.0, 2, seed)
    fade = min(1.0, max(0.0, 1.4 - 45.0 * footprint))
    rings = 0.5 + 0.5 * fade * math.sin(v * 90.0 + 26.0 * warp + shift)
    fibre = fractal(u * 4.0 + shift, v * 120.0, footprint * 120.0, 2, seed + 9)
    gap = max(line(to_edge(u, m[SCALE_U]), m[LINE], footprint), line(to_edge(v, m[SCALE_V]), m[LINE], footprint))
    tone = 0.5 + min(1.0, max(0.0, 1.5 - footprint / m[SCALE_V])) * (tone - 0.5)
    return m[CONTRAST] * (0.55 * tone + 0.45 * rings * warp * 1.6) + 0.3 * fibre + 0.15 * warp, gap


@njit(cache=True, fastmath=True)
def stripe_pattern(m, u, v, footprint, seed):
    """Irregular stripes with a little yarn noise."""
    keep = min(1.0, max(0.0, 1.5 - footprint / m[SCALE_V]))
    band = int(math.floor(v / m[SCALE_V]))
    run = int(math.floor(u / m[SCALE_U] + hash01(band, 3, seed)))
    tone = 0.5 + keep * (hash01(band, run if m[BOND] > 0 else 0, seed) - 0.5)
    return m[CONTRAST] * tone + 0.2 * fractal(u * 60.0, v * 60.0, footprint * 60.0, 2, seed), 0.0


@njit(cache=True, fastmath=True)
def poster_pattern(m, s, t, footprint, seed):
    """Layered shapes and lines of text on [0, 1]^2: (tone, third color's share)."""
    tone = 0.4 * fractal(s * 3.0, t * 3.0, footprint * 3.0, 3, seed) if hash01(1, 2, seed) < 0.5 else 0.0
    share = 0.0
    for k in range(int(2 + 6 * hash01(7, 7, seed))):
        x, y = s - hash01(k, 1, seed), t - hash01(k, 2, seed)
        a, b = 0.04 + 0.4 * hash01(k, 3, seed) ** 2, 0.04 + 0.4 * hash01(k, 4, seed) ** 2
        inside = abs(x) < a and abs(y) < b
        if hash01(k, 5, seed) < 0.4:
            inside = x * x / (a * a) + y * y / (b * b) < 1.0
        if inside:
            tone, share = hash01(k, 6, seed), hash01(k, 8, seed) if hash01(k, 9, seed) < 0.5 else 0.0
    row = int(math.floor(t * m[SCALE_U]))
    if hash01(row, 11, seed) < m[BOND] and 0.08 < s < 0.2 + 0.75 * hash01(row, 12, seed):
        ink = 0.75 if t * m[SCALE_U] - row < 0.5 and noise(s * 60.0, row * 3.0, seed) > 0.3 else 0.0
        tone = tone * (1 - ink) + ink * (1.0 if tone < 0.5 else 0.0)
    return tone, share


@njit(cache=True, fastmath=True)
def view_pattern(m, s, t, seed):
    """What a window shows, out of focus: bright sky above soft dark shapes."""
    horizon = 0.25 + 0.35 * hash01(1, 1, seed) + 0.35 * (noise(s * 5.0, 0.5, seed) - 0.5)
    ground = 1.0 / (1.0 + math.exp((t - horizon) * 14.0))
    return m[CONTRAST] * ground * (0.5 + 0.5 * noise(s * 6.0, t * 6.0, seed + 1)), 0.0


@njit(cache=True, fastmath=True)
def facade_pattern(m, u, v, footprint, seed):
    """Rows of windows with frames: (glass or wall tone, frame cover)."""
    i, j = int(math.floor(u / m[SCALE_U])), int(math.floor(v / m[SCALE_V]))
    x, y = abs(u / m[SCALE_U] - i - 0.5), abs(v / m[SCALE_V] - j - 0.5)
    wide, high = 0.18 + 0.22 * hash01(3, 1, seed), 0.2 + 0.2 * hash01(3, 2, seed)
    if x > wide or y > high:
        return 0.25 * fractal(u * 2.0, v * 2.0, footprint * 2.0, 4, seed), 0.0
    frame = 1.0 if x > wide - 0.03 or y > high - 0.03 or x < 0.012 else 0.0
    return 0.65 + 0.35 * hash01(i, j, seed), frame


@njit(cache=True, fastmath=True)
def pattern_value(m, u, v, s, t, footprint, seed):
    """(share of the second color, share of the third color) of a material at a surface point."""
    kind = int(m[PATTERN])
    if kind == WOOD:
        return wood_pattern(m, u, v, footprint, seed)
    if kind == TILES:
        return cell_pattern(m, u, v, footprint, seed)
    if kind == STRIPES:
        return stripe_pattern(m, u, v, footprint, seed)
    if kind == POSTER:
        return poster_pattern(m, s, t, footprint, seed)
    if kind == VIEW:
        return view_pattern(m, s, t, seed)
    if kind == FACADE:
        return facade_pattern(m, u, v, footprint, seed)
    x, y, reach = u / m[SCALE_U], v / m[SCALE_V], footprint / min(m[SCALE_U], m[SCALE_V])
    if kind == NOISE:
        return 0.5 + m[CONTRAST] * 1.6 * (fractal(x, y, reach, 4, seed) - 0.5), 0.0
    if kind == MARBLE:
        keep = min(1.0, max(0.0, 1.5 - 3.0 * reach))
        vein = 0.64 + keep * (abs(math.sin(3.0 * x + 9.0 * fractal(x, y, reach, 4, seed))) - 0.64)
        return m[CONTRAST] * (1.0 - vein) ** 3 + 0.3 * fractal(x, y, reach, 3, seed + 5), 0.0
    keep = min(1.0, max(0.0, 1.5 - 2.0 * reach))
    if kind == WEAVE:
        yarn = math.sin(x * 6.2832) * math.sin(y * 6.2832)
        return 0.5 + m[CONTRAST] * 0.5 * keep * yarn + 0.3 * (
            fractal(x * 0.1, y * 0.1, reach * 0.1, 3, seed) - 0.5
        ), 0.0
    if kind == PLAID:
        a, b = hash01(int(math.floor(x)), 1, seed), hash01(int(math.floor(y)), 2, seed)
        return 0.5 + keep * m[CONTRAST] * 0.5 * (a + b - 1.0), keep * max(0.0, a * b - 0.6)
    if kind == DOTS:
        a, b = x - math.floor(x) - 0.5, y - math.floor(y) - 0.5
        return keep * min(1.0, max(0.0, (0.3 - math.sqrt(a * a + b * b)) * 9.0)) * m[CONTRAST], 0.0
    if kind == SPINE:
        title = 1.0 if 0.55 < t < 0.85 and noise(s * 3.0, t * 30.0, seed) > 0.5 else 0.0
        return m[CONTRAST] * title, 1.0 if abs(t - 0.2) < 0.03 or abs(t - 0.92) < 0.02 else 0.0
    return 0.4 * fractal(u * 1.5, v * 1.5, footprint * 1.5, 3, seed), 0.0
