"""Materials as rows of numbers, and the palettes they draw from: mostly what real homes are made of."""

import colorsys
from random import Random

from . import synthetic_textures as tx

Color = tuple[float, float, float]

WOODS = [(0.80, 0.66, 0.47), (0.70, 0.50, 0.30), (0.55, 0.36, 0.20), (0.38, 0.23, 0.14), (0.62, 0.33, 0.20)]
WOODS += [(0.27, 0.17, 0.12), (0.86, 0.78, 0.66), (0.48, 0.22, 0.14), (0.74, 0.58, 0.36)]
WALLS = [(0.92, 0.91, 0.88), (0.88, 0.84, 0.76), (0.80, 0.80, 0.79), (0.85, 0.78, 0.66), (0.76, 0.80, 0.82)]
WALLS += [(0.70, 0.72, 0.68), (0.93, 0.92, 0.91), (0.82, 0.74, 0.68), (0.60, 0.66, 0.70), (0.95, 0.94, 0.90)]
CARPETS = [(0.62, 0.56, 0.48), (0.45, 0.43, 0.42), (0.3, 0.31, 0.33)]
CARPETS += [(0.5, 0.38, 0.3), (0.36, 0.2, 0.19), (0.35, 0.4, 0.46)]


def linear(color: Color) -> Color:
    """sRGB in [0, 1] to the linear reflectance the shading works in."""
    return tuple(min(1.0, max(0.0, c)) ** 2.2 for c in color)


def vary(rng: Random, color: Color, amount: float) -> Color:
    """A color near the given one: common brightness and a little hue."""
    shade = 1 + rng.gauss(0, amount)
    return tuple(min(0.97, max(0.02, c * shade + rng.gauss(0, amount * 0.25))) for c in color)


def muted(rng: Random) -> Color:
    """Any hue at low saturation, from black to white."""
    return colorsys.hsv_to_rgb(rng.random(), rng.random() ** 2 * 0.5, 0.08 + 0.85 * rng.random())


def vivid(rng: Random) -> Color:
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.5, 0.95), rng.uniform(0.25, 0.9))


def any_color(rng: Random) -> Color:
    return vivid(rng) if rng.random() < 0.2 else muted(rng)


def row(
    rng: Random,
    a: Color,
    b: Color | None = None,
    c: Color | None = None,
    *,
    pattern: int = tx.PLAIN,
    scale: tuple[float, float] = (1.0, 1.0),
    contrast: float = 1.0,
    bond: float = 0.0,
    line: float = 0.002,
    specular: float = 0.0,
    shininess: float = 20.0,
    mirror: float = 0.0,
    emission: float = 0.0,
    shared: bool = False,
) -> list[float]:
    """One material row: sRGB colors a, b (default: a slightly darker) and c (default: dark a), and numbers.

    scale and line are in metres; emission multiplies the color; the seed column is drawn from `rng`.
    A shared pattern runs on from part to part (tiled walls) instead of differing between objects (books).
    """
    b = b or tuple(0.88 * x for x in a)
    c = c or tuple(0.35 * x for x in a)
    numbers = (
        contrast,
        rng.randrange(100000),
        bond,
        line,
        specular,
        shininess,
        mirror,
        emission,
        float(shared),
    )
    return [pattern, *scale, *linear(a), *linear(b), *linear(c), *numbers]


def wood(rng: Random, tone: Color | None = None, *, planks: bool = False) -> list[float]:
    """Wood grain along the longest side; `planks` for floors and table tops with visible boards."""
    tone = tone or vary(rng, rng.choice(WOODS), 0.1)
    dark = tuple(c * rng.uniform(0.55, 0.8) for c in tone)
    scale = (rng.uniform(0.6, 2.2), rng.uniform(0.07, 0.2)) if planks else (9.0, 9.0)
    gloss = rng.random() ** 2
    return row(
        rng,
        tone,
        dark,
        tuple(c * 0.4 for c in tone),
        pattern=tx.WOOD,
        scale=scale,
        contrast=rng.uniform(0.5, 1.1),
        line=rng.uniform(0.0008, 0.003) if planks else 0.0,
        specular=0.5 * gloss,
        shininess=rng.uniform(10, 90),
        mirror=0.05 * gloss if planks else 0.0,
    )


def paint(rng: Random, color: Color | None = None) -> list[float]:
    """Wall paint or plaster."""
    color = vary(rng, color or rng.choice(WALLS), 0.05)
    if rng.random() < 0.5:
        return row(rng, color, tuple(c * 0.93 for c in color))
    scale = rng.choice([0.02, 0.1, 0.6])
    return row(
        rng,
        color,
        tuple(c * 0.85 for c in color),
        pattern=tx.NOISE,
        scale=(scale, scale),
        contrast=rng.uniform(0.2, 0.7),
    )


def tiles(rng: Random, size: float | None = None, tone: Color | None = None) -> list[float]:
    """Ceramic tiles with joints."""
    tone = tone or vary(rng, rng.choice(WALLS + [(0.5, 0.5, 0.5), (0.55, 0.42, 0.33), (0.25, 0.25, 0.27)]), 0.1)
    side = size or rng.choice([0.2, 0.3, 0.45, 0.6, 0.8])
    joint = tuple(c * rng.choice([0.45, 0.7, 1.2]) for c in tone)
    gloss = rng.random()
    aspect = rng.choice([1.0, 1.0, 1.0, 0.5, 2.0])
    return row(
        rng,
        tone,
        tuple(c * 0.8 for c in tone),
        vary(rng, joint, 0.02),
        pattern=tx.TILES,
        scale=(side, side * aspect),
        contrast=rng.uniform(0.0, 0.6),
        bond=rng.choice([0.0, 0.0, 0.5]),
        line=min(0.004, 0.012 * side),
        specular=0.6 * gloss,
        shininess=rng.uniform(30, 250),
        mirror=0.09 * gloss,
        shared=True,
    )


def paving(rng: Random, size: float, tone: Color = (0.6, 0.59, 0.56)) -> list[float]:
    """Dull outdoor tiles."""
    dull = tiles(rng, size, vary(rng, tone, 0.06))
    dull[tx.SPECULAR] = dull[tx.MIRROR] = 0.0
    return dull


def bricks(rng: Random) -> list[float]:
    tone = vary(rng, rng.choice([(0.55, 0.27, 0.2), (0.62, 0.45, 0.33), (0.85, 0.84, 0.8), (0.5, 0.4, 0.36)]), 0.1)
    return row(
        rng,
        tone,
        tuple(c * 0.65 for c in tone),
        (0.72, 0.7, 0.66),
        pattern=tx.TILES,
        scale=(0.23, 0.075),
        bond=0.5,
        line=0.005,
        contrast=rng.uniform(0.4, 1.0),
        shared=True,
    )


def carpet(rng: Random) -> list[float]:
    """Pile, stripes or a woven pattern for floors and rugs."""
    color = any_color(rng) if rng.random() < 0.4 else vary(rng, rng.choice(CARPETS), 0.15)
    other = vary(rng, color, 0.25) if rng.random() < 0.7 else any_color(rng)
    kind = rng.choices([tx.NOISE, tx.STRIPES, tx.PLAID, tx.WEAVE, tx.DOTS], [50, 22, 8, 16, 4])[0]
    scale = {tx.NOISE: rng.uniform(0.006, 0.05), tx.STRIPES: rng.uniform(0.006, 0.05)}.get(kind, rng.uniform(0.01, 0.2))
    return row(
        rng,
        color,
        other,
        pattern=kind,
        scale=(scale if kind != tx.STRIPES else 0.6, scale),
        contrast=rng.uniform(0.4, 1),
        bond=1.0,
    )


def fabric(rng: Random, color: Color | None = None) -> list[float]:
    """Upholstery, bedding and curtains."""
    color = color or any_color(rng)
    kind = rng.choices([tx.PLAIN, tx.WEAVE, tx.NOISE, tx.STRIPES, tx.PLAID, tx.DOTS], [35, 25, 20, 8, 7, 5])[0]
    other = tuple(c * 0.75 for c in color) if rng.random() < 0.7 else any_color(rng)
    scale = rng.uniform(0.004, 0.012) if kind in (tx.WEAVE, tx.NOISE) else rng.uniform(0.02, 0.12)
    return row(rng, color, other, pattern=kind, scale=(scale, scale), contrast=rng.uniform(0.4, 1.0))


def marble(rng: Random) -> list[float]:
    tone = rng.choice([(0.9, 0.9, 0.88), (0.2, 0.2, 0.22), (0.55, 0.5, 0.45), (0.82, 0.78, 0.7)])
    vein = (0.45, 0.44, 0.43) if tone[0] > 0.4 else (0.6, 0.6, 0.6)
    kind = rng.choice([tx.MARBLE, tx.NOISE])
    scale = rng.uniform(0.2, 0.8) if kind == tx.MARBLE else rng.uniform(0.005, 0.03)
    return row(
        rng,
        vary(rng, tone, 0.05),
        vein,
        pattern=kind,
        scale=(scale, scale),
        contrast=rng.uniform(0.3, 0.8),
        specular=0.6,
        shininess=120,
        mirror=0.05,
    )


def plain(rng: Random, color: Color | None = None, *, gloss: float | None = None) -> list[float]:
    """Plastic, lacquer or ceramic of one color."""
    gloss = rng.random() if gloss is None else gloss
    return row(rng, color or any_color(rng), specular=0.7 * gloss, shininess=rng.uniform(20, 200))


def metal(rng: Random) -> list[float]:
    shade = rng.choice([0.1, 0.14, 0.5, 0.65, 0.75])
    return row(
        rng,
        vary(rng, (shade, shade, shade), 0.1),
        specular=1.0,
        shininess=rng.uniform(30, 200),
        mirror=0.15 if shade > 0.3 else 0.0,
    )


def glow(rng: Random, color: Color, strength: float) -> list[float]:
    """A lamp: emits its color times strength."""
    return row(rng, color, color, emission=strength)


def poster(rng: Random, *, text: float | None = None) -> list[float]:
    """Pictures, magazines and papers; `text` is the share of rows that are text."""
    text = rng.choice([0.0, 0.0, 0.5, 0.9]) if text is None else text
    paper = (0.92, 0.91, 0.88) if rng.random() < 0.5 else any_color(rng)
    ink = any_color(rng) if text < 0.3 else (0.15, 0.15, 0.17)
    return row(
        rng,
        paper,
        ink,
        any_color(rng),
        pattern=tx.POSTER,
        scale=(rng.uniform(8, 36), 1.0),
        bond=text,
        specular=0.15 * rng.random(),
        shininess=60,
    )
