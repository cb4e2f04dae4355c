"""Small things that stand or lie on surfaces: crockery, books, papers, boxes, plants."""

import math
from random import Random

from . import synthetic_materials as mat
from .synthetic_devices import keyboard, laptop
from .synthetic_scene import BALL, CUSHION, PEBBLE, Place, Scene, lathe


def _turned(scene: Scene, place: Place, profile: list[tuple[float, float]], material: int, sides: int = 16) -> None:
    """A lathe body with its profile in metres."""
    radius, height = max(r for r, _ in profile), max(h for _, h in profile)
    unit = [(max(r, 0.002) / (2 * radius), h / height) for r, h in profile]
    scene.mesh(place, lathe(unit, sides), (0, 0, 0), (2 * radius, 2 * radius, height), material)


def cup(scene: Scene, place: Place, rng: Random) -> None:
    radius, height = rng.uniform(0.032, 0.05), rng.uniform(0.06, 0.12)
    glaze = scene.material(mat.plain(rng, mat.vary(rng, (0.88, 0.87, 0.84), 0.1) if rng.random() < 0.6 else None))
    wall = 0.88 * radius
    _turned(
        scene,
        place,
        [(0, 0), (0.75 * radius, 0), (radius, height), (wall, height), (0.7 * wall, 0.01), (0, 0.01)],
        glaze,
    )
    for z in (0.3, 0.7):
        scene.bar(place, (radius * 0.85, 0, z * height), (radius * 1.6, 0, z * height), 0.008, glaze)
    scene.bar(place, (radius * 1.55, 0, 0.27 * height), (radius * 1.55, 0, 0.73 * height), 0.009, glaze)


def bowl(scene: Scene, place: Place, rng: Random) -> None:
    radius, height = rng.uniform(0.06, 0.16), rng.uniform(0.03, 0.1)
    glaze = scene.material(mat.plain(rng) if rng.random() < 0.7 else mat.wood(rng))
    profile = [
        (0, 0),
        (0.4 * radius, 0),
        (0.8 * radius, 0.45 * height),
        (radius, height),
        (0.94 * radius, height),
    ]
    _turned(scene, place, [*profile, (0.7 * radius, 0.45 * height), (0, 0.12 * height)], glaze, 20)
    for k in range(rng.choice([0, 0, 3, 5])):
        fruit = scene.material(
            mat.plain(rng, rng.choice([(0.8, 0.3, 0.1), (0.75, 0.65, 0.15), (0.5, 0.65, 0.2)]), gloss=0.3)
        )
        angle, size = k * 1.3, rng.uniform(0.06, 0.08)
        at = (0.45 * radius * math.cos(angle), 0.45 * radius * math.sin(angle), 0.7 * height + size / 3)
        scene.mesh(place, BALL, at, (size, size, size), fruit)


def bottle(scene: Scene, place: Place, rng: Random) -> None:
    r, h = rng.uniform(0.028, 0.05), rng.uniform(0.14, 0.34)
    neck = r * rng.uniform(0.25, 0.6)
    profile = [(0, 0), (r, 0.01 * h), (r, 0.6 * h), (neck, 0.78 * h), (neck, h), (0, h)]
    _turned(scene, place, profile, scene.material(mat.plain(rng, gloss=0.9)))


def vase(scene: Scene, place: Place, rng: Random) -> None:
    r, h = rng.uniform(0.05, 0.12), rng.uniform(0.12, 0.4)
    profile = [(0, 0)] + [(r * (0.45 + 0.55 * rng.random()), h * k / 4) for k in range(5)] + [(0.2 * r, 0.97 * h)]
    _turned(scene, place, profile, scene.material(mat.plain(rng)), 20)
    if rng.random() < 0.5:
        leaves(scene, place.at(0, 0, h), rng, r * 2.2, rng.uniform(0.15, 0.4))


def candle(scene: Scene, place: Place, rng: Random) -> None:
    h = rng.uniform(0.12, 0.35)
    _turned(
        scene,
        place,
        [(0, 0), (0.045, 0), (0.01, 0.03), (0.01, 0.6 * h), (0.025, 0.62 * h), (0, 0.63 * h)],
        scene.material(mat.metal(rng)),
    )
    scene.bar(
        place,
        (0, 0, 0.6 * h),
        (0, 0, h),
        0.022,
        scene.material(mat.plain(rng, (0.9, 0.87, 0.8), gloss=0.2)),
        round=True,
    )


def papers(scene: Scene, place: Place, rng: Random) -> None:
    """Sheets and magazines, each lying on the one before."""
    for k in range(rng.randint(1, 5)):
        sheet = scene.material(mat.poster(rng))
        size = rng.choice([(0.21, 0.297), (0.15, 0.21), (0.22, 0.28)])
        scene.box(
            place,
            (rng.gauss(0, 0.07), rng.gauss(0, 0.07), 0.002 + 0.004 * k),
            (*size, 0.004),
            sheet,
            rng.uniform(-0.8, 0.8),
        )


def books(scene: Scene, place: Place, rng: Random) -> None:
    """A pile of books."""
    z = 0.0
    for _ in range(rng.randint(1, 5)):
        thick, size = rng.uniform(0.012, 0.05), rng.uniform(0.14, 0.22)
        cover = scene.material(mat.poster(rng, text=rng.choice([0.0, 0.2])))
        turn = rng.gauss(0, 0.25)
        scene.box(place, (0, 0, z + thick / 2), (size, size * 1.35, thick), cover, turn)
        scene.box(
            place,
            (0, 0, z + thick / 2),
            (size * 1.01, size * 1.33, thick * 0.8),
            scene.material(mat.plain(rng, (0.85, 0.82, 0.75), gloss=0)),
            turn,
        )
        z += thick


def carton(scene: Scene, place: Place, rng: Random) -> None:
    """A box, a food package or a storage tub with a lid."""
    w, d, h = rng.uniform(0.06, 0.3), rng.uniform(0.05, 0.25), rng.uniform(0.05, 0.25)
    kind = rng.random()
    side = (
        mat.poster(rng)
        if kind < 0.5
        else mat.plain(rng, mat.vary(rng, (0.68, 0.54, 0.38), 0.1) if kind < 0.7 else None)
    )
    body = scene.material(side)
    scene.box(place, (0, 0, h / 2), (w, d, h), body)
    if kind > 0.7:
        scene.box(place, (0, 0, h), (w + 0.015, d + 0.015, 0.018), scene.material(mat.plain(rng, gloss=0.5)))


def leaves(scene: Scene, place: Place, rng: Random, spread: float, height: float) -> None:
    """A tuft of long flat leaves and stems."""
    green = scene.material(mat.plain(rng, mat.vary(rng, (0.22, 0.36, 0.14), 0.2), gloss=0.4))
    for _ in range(rng.randint(7, 18)):
        angle, reach, rise = (
            rng.uniform(0, 6.28),
            spread * rng.uniform(0.3, 1.0),
            height * rng.uniform(0.4, 1.0),
        )
        tip = (reach * math.cos(angle), reach * math.sin(angle), rise)
        scene.bar(place, (0, 0, 0), tip, 0.008, green)
        leaf = place.at(*tip, angle)
        scene.mesh(leaf, PEBBLE, (0, 0, 0), (height * 0.32, height * 0.14, 0.02), green, tilt=rng.gauss(0, 0.5))


def plant(scene: Scene, place: Place, rng: Random, size: float | None = None) -> None:
    """A pot plant."""
    size = size or rng.uniform(0.15, 0.35)
    pot = scene.material(
        mat.plain(
            rng,
            mat.vary(rng, rng.choice([(0.6, 0.33, 0.22), (0.85, 0.85, 0.83), (0.2, 0.2, 0.2)]), 0.1),
            gloss=0.2,
        )
    )
    r, h = 0.3 * size, 0.42 * size
    _turned(scene, place, [(0, 0), (0.7 * r, 0), (r, h), (0.9 * r, h), (0.88 * r, 0.9 * h), (0, 0.88 * h)], pot)
    leaves(scene, place.at(0, 0, h * 0.9), rng, 0.55 * size, size)


def small_ball(scene: Scene, place: Place, rng: Random) -> None:
    size = rng.uniform(0.05, 0.12)
    scene.mesh(place, BALL, (0, 0, size / 2), (size, size, size), scene.material(mat.plain(rng)))


def bag(scene: Scene, place: Place, rng: Random) -> None:
    """A slouching bag or a cushion on the floor."""
    size, cloth = rng.uniform(0.25, 0.45), scene.material(mat.fabric(rng))
    scene.mesh(place, CUSHION, (0, 0, size * 0.3), (size, size * rng.uniform(0.5, 0.9), size * 0.65), cloth)


DINING = [cup, cup, bowl, bottle, vase, candle, papers, papers, carton]


OFFICE = [papers, papers, books, cup, laptop, carton, bottle, keyboard]


FLOOR = [books, carton, carton, small_ball, bag, papers]
SHELF = [books, vase, carton, bottle, plant, small_ball, cup]


def scatter(scene: Scene, place: Place, rng: Random, width: float, depth: float, kinds: list, count: int) -> None:
    """Puts `count` things on a `width` by `depth` rectangle around `place`, none on top of another."""
    taken: list[tuple[float, float]] = []
    for _ in range(count):
        x, y = rng.uniform(-0.5, 0.5) * width, rng.uniform(-0.5, 0.5) * depth
        if all(math.hypot(x - a, y - b) > 0.24 for a, b in taken):
            taken.append((x, y))
            rng.choice(kinds)(scene, place.at(x, y, 0, rng.choice([0, 3.14, rng.uniform(0, 6.28)])), rng)
