"""Buildings, trees, fences, cars and what else stands in a street."""

from random import Random

import numpy as np

from . import synthetic_materials as mat
from .synthetic_pieces import Style
from .synthetic_scene import CUSHION, DRUM, ROD, Place, Scene, lathe, rounded

_TRUNK = lathe([(0.6, 0.0), (0.42, 0.3), (0.35, 1.0)], 9)


_CROWN = rounded(1.0, 14, 22)


_SLOPED = rounded(0.45, 8, 16)


def building(scene: Scene, rng: Random, margin: float) -> None:
    width, depth, height = (
        rng.uniform(5, 16),
        rng.uniform(5, 16),
        rng.choice([3.2, 6, 9, 14]) * rng.uniform(0.9, 1.2),
    )
    side = rng.choice([-1, 1])
    place = Place(side * (margin + rng.uniform(0, 8) + width / 2), rng.uniform(5, 65), 0, rng.gauss(0, 0.06))
    wall = mat.vary(rng, rng.choice([*mat.WALLS, (0.55, 0.3, 0.22), (0.6, 0.48, 0.36)]), 0.12)
    glass = rng.choice([(0.12, 0.15, 0.18), (0.3, 0.38, 0.45)])
    face = mat.row(
        rng,
        wall,
        glass,
        rng.choice([(0.9, 0.9, 0.88), (0.25, 0.22, 0.2)]),
        pattern=mat.tx.FACADE,
        scale=(rng.uniform(1.6, 3), 2.9),
        shared=True,
        specular=0.1,
    )
    scene.box(place, (0, 0, height / 2), (width, depth, height), scene.material(face))
    trim = scene.material(mat.paint(rng))
    if rng.random() < 0.5:
        scene.box(place, (0, 0, height + 0.1), (width + 0.5, depth + 0.5, 0.3), trim)
    elif height < 10:
        roof = scene.material(mat.paving(rng, 0.3, rng.choice([(0.5, 0.25, 0.18), (0.3, 0.3, 0.33)])))
        for s in (-1, 1):
            scene.slab(
                place,
                (0, s * depth * 0.26, height + depth * 0.14),
                (width + 0.6, depth * 0.62, 0.15),
                roof,
                -s * 0.5,
            )
    front = place.at(-side * (width / 2 + 0.03), 0)
    for k in range(int(depth / 4)):
        scene.box(front, (0, (k + 0.5) * 4 - depth / 2, 1.05), (0.08, 1.0, 2.1), trim)
        if rng.random() < 0.4 and height > 5:
            scene.box(front, (-side * 0.4, (k + 0.5) * 4 - depth / 2, 3.2), (1.0, 2.0, 0.9), trim)


def tree(scene: Scene, place: Place, rng: Random) -> None:
    """A trunk, some branches and a crown of lumpy blobs; sometimes a conifer or a bush."""
    height = rng.uniform(2.5, 10)
    bark = scene.material(
        mat.row(rng, mat.vary(rng, (0.36, 0.29, 0.22), 0.15), pattern=mat.tx.NOISE, scale=(0.05, 0.05))
    )
    green = mat.vary(
        rng, rng.choice([(0.27, 0.38, 0.15), (0.2, 0.3, 0.13), (0.45, 0.42, 0.15), (0.5, 0.3, 0.13)]), 0.15
    )
    leaf = scene.material(
        mat.row(rng, green, tuple(c * 0.35 for c in green), pattern=mat.tx.NOISE, scale=(0.25, 0.25), contrast=1.6)
    )
    if rng.random() < 0.2:
        for k in range(4):
            cone = lathe([(0.5, 0.0), (0.25, 0.45), (0.02, 1.0)], 12)
            scene.mesh(
                place,
                cone,
                (0, 0, height * (0.12 + 0.2 * k)),
                (height * (0.42 - 0.09 * k),) * 2 + (height * 0.35,),
                leaf,
            )
        scene.mesh(place, _TRUNK, (0, 0, -0.1), (0.3, 0.3, height * 0.5), bark)
        return
    is_bush = rng.random() < 0.2
    if not is_bush:
        scene.mesh(place, _TRUNK, (0, 0, -0.2), (height * 0.06, height * 0.06, height * 0.75), bark)
    base, spread = (0.1, 0.7) if is_bush else (height * 0.7, height * 0.2)
    for _ in range(rng.randint(4, 11)):
        x, y, z = rng.gauss(0, spread), rng.gauss(0, spread), base + rng.gauss(0.1, 0.6) * spread
        if not is_bush:
            scene.bar(place, (0, 0, height * 0.5), (x, y, z), 0.03 * height**0.5, bark, round=True)
        size = spread * rng.uniform(0.9, 2.0)
        scene.mesh(place.at(0, 0, 0, rng.uniform(0, 6)), _lumpy(rng), (x, y, z), (size, size, size * 0.8), leaf)


def _lumpy(rng: Random) -> tuple[np.ndarray, np.ndarray]:
    vertices, faces = _CROWN
    axes = np.array([[rng.gauss(0, 1) for _ in range(4)] for _ in range(3)], np.float32)
    bumps = np.sin(vertices @ axes * 14 + rng.uniform(0, 6)).sum(1, keepdims=True)
    return vertices * (1 + 0.09 * bumps), faces


def fence(scene: Scene, rng: Random, x: float) -> None:
    look = scene.material(rng.choice([mat.wood(rng), mat.plain(rng, (0.85, 0.85, 0.83)), mat.metal(rng)]))
    height, gap, start = rng.uniform(0.9, 1.8), rng.choice([0.16, 0.25, 2.0]), rng.uniform(2, 15)
    count = int(rng.uniform(6, 20) / gap)
    for k in range(min(count, 90)):
        scene.box(Place(x, start + k * gap), (0, 0, height / 2), (0.03, min(0.1, gap * 0.6), height), look)
    for z in (0.3, 0.85):
        scene.box(
            Place(x, start + min(count, 90) * gap / 2),
            (0, 0, z * height),
            (0.025, min(count, 90) * gap, 0.07),
            look,
        )


def car(scene: Scene, place: Place, rng: Random, style: Style) -> None:
    """Body, cabin with windows, lights and wheels; the front towards +y."""
    coat = scene.material(
        mat.plain(
            rng,
            rng.choice([(0.85, 0.85, 0.85), (0.15, 0.15, 0.16), (0.5, 0.5, 0.52), mat.vivid(rng)]),
            gloss=0.9,
        )
    )
    glass = scene.material(mat.row(rng, (0.1, 0.12, 0.14), specular=0.8, shininess=100, mirror=0.1))
    length, height = rng.uniform(3.8, 4.8), rng.uniform(1.4, 1.8)
    scene.mesh(place, _SLOPED, (0, 0, 0.62), (1.8, length, 0.75), coat)
    scene.box(place, (0, 0, 0.5), (1.7, length * 0.94, 0.4), coat)
    scene.mesh(place, _SLOPED, (0, -0.25, height - 0.4), (1.55, length * 0.58, 0.85), glass)
    scene.mesh(place, CUSHION, (0, -0.25, height - 0.05), (1.3, length * 0.4, 0.12), coat)
    lamp, tail = (
        scene.material(mat.glow(rng, (1, 1, 0.9), 0.5)),
        scene.material(mat.plain(rng, (0.6, 0.05, 0.05))),
    )
    for side in (-1, 1):
        for y, look in ((length * 0.475, lamp), (-length * 0.475, tail)):
            scene.box(place, (side * 0.6, y, 0.68), (0.32, 0.06, 0.13), look)
        for y in (-0.3, 0.3):
            scene.bar(
                place,
                (side * 0.74, y * length, 0.32),
                (side * 0.94, y * length, 0.32),
                0.64,
                style.dark,
                round=True,
            )
            scene.bar(
                place,
                (side * 0.93, y * length, 0.32),
                (side * 0.955, y * length, 0.32),
                0.36,
                style.metal,
                round=True,
            )


def street_thing(scene: Scene, place: Place, rng: Random, style: Style) -> None:
    """A post, a bench, a bin or a crate."""
    kind = rng.choice(["post", "bench", "bin", "crate"])
    if kind == "post":
        height = rng.uniform(2.2, 5)
        scene.bar(place, (0, 0, 0), (0, 0, height), 0.09, style.metal, round=True)
        scene.box(place, (0, 0.06, height), (0.55, 0.03, 0.55), scene.material(mat.poster(rng)))
    elif kind == "bench":
        for x in (-0.7, 0.7):
            scene.box(place, (x, 0, 0.22), (0.06, 0.4, 0.44), style.dark)
        for k in range(3):
            scene.box(place, (0, -0.15 + 0.14 * k, 0.45), (1.6, 0.1, 0.03), style.wood)
            scene.box(place, (0, -0.22, 0.58 + 0.13 * k), (1.6, 0.03, 0.1), style.wood)
    elif kind == "bin":
        scene.mesh(place, DRUM, (0, 0, 0.45), (0.45, 0.45, 0.9), style.fabric)
        scene.mesh(place, ROD, (0, 0, 0.92), (0.48, 0.48, 0.08), style.dark)
    else:
        size = rng.uniform(0.3, 1.2)
        scene.box(place, (0, 0, size / 2), (size, size * 1.2, size), scene.material(mat.wood(rng, planks=True)))
