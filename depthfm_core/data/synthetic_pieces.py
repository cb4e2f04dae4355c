"""What pieces of furniture have in common, and the small ones that stand about: lamps, bins, plants."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from . import synthetic_clutter as clutter
from . import synthetic_materials as mat
from .synthetic_scene import DRUM, Place, Scene, lathe


@dataclass(frozen=True)
class Style:
    """What the pieces of one room have in common: material numbers of its scene."""

    wood: int
    wood_top: int
    dark: int
    metal: int
    fabric: int
    cushion: int
    trim: int
    white: int


@dataclass(frozen=True)
class Piece:
    """A thing to place: the floor it takes in metres, its height, its builder, and its table top if any."""

    width: float
    depth: float
    height: float
    build: Callable[[Scene, Place], None]
    top: tuple[float, float] | None = None


def draw_style(scene: Scene, rng: Random) -> Style:
    tone = mat.vary(rng, rng.choice(mat.WOODS), 0.08)
    cloth = mat.any_color(rng)
    rows = (
        mat.wood(rng, tone),
        mat.wood(rng, tone if rng.random() < 0.7 else None, planks=rng.random() < 0.6),
        mat.plain(rng, mat.vary(rng, (0.1, 0.1, 0.11), 0.2)),
        mat.metal(rng),
        mat.fabric(rng, cloth),
        mat.fabric(rng),
        mat.plain(rng, mat.vary(rng, rng.choice(mat.WALLS), 0.03), gloss=0.3),
        mat.plain(rng, (0.9, 0.9, 0.89), gloss=0.5),
    )
    return Style(*(scene.material(r) for r in rows))


def legs(
    scene: Scene,
    place: Place,
    half_x: float,
    half_y: float,
    height: float,
    thick: float,
    material: int,
    splay: float,
    *,
    round: bool = False,
) -> None:
    for sx in (-1, 1):
        for sy in (-1, 1):
            foot = (sx * (half_x + splay), sy * (half_y + splay), 0.0)
            scene.bar(place, foot, (sx * half_x, sy * half_y, height), thick, material, round=round)


def floor_lamp(rng: Random, style: Style) -> Piece:
    height, lit = rng.uniform(1.4, 1.75), rng.choice([0.1, 1.0, 2.5])

    def build(scene: Scene, place: Place) -> None:
        scene.mesh(place, DRUM, (0, 0, 0.015), (0.28, 0.28, 0.03), style.metal)
        scene.bar(place, (0, 0, 0), (0, 0, height), 0.025, style.metal, round=True)
        shade = scene.material(mat.glow(rng, (0.98, 0.85, 0.65), lit))
        scene.mesh(
            place,
            lathe([(0.5, -0.5), (0.3, 0.5), (0.29, 0.5), (0.49, -0.5)], 20),
            (0, 0, height),
            (0.42, 0.42, 0.28),
            shade,
        )

    return Piece(0.4, 0.4, height, build)


def bin_or_box(rng: Random, style: Style) -> Piece:
    size = rng.uniform(0.22, 0.4)
    look = rng.choice([style.dark, style.metal, style.fabric, style.white])

    def build(scene: Scene, place: Place) -> None:
        if rng.random() < 0.5:
            scene.mesh(place, DRUM, (0, 0, size * 0.8), (size, size, size * 1.6), look)
        else:
            scene.box(place, (0, 0, size * 0.6), (size, size * 0.8, size * 1.2), look)

    return Piece(size, size, size * 1.6, build)


def house_plant(rng: Random, _style: Style) -> Piece:
    size = rng.uniform(0.5, 1.0)
    return Piece(0.45, 0.45, 1.2 * size, lambda scene, place: clutter.plant(scene, place, rng, size))
