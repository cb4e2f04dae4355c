"""Tables with their seats and what lies on them; a desk faces the wall at -y."""

import math
from random import Random

from . import synthetic_clutter as clutter
from . import synthetic_devices as devices
from .synthetic_pieces import Piece, Style, legs
from .synthetic_scene import DRUM, Place, Scene
from .synthetic_seats import SEATS, bar_stool, office_chair


def _table_frame(scene: Scene, place: Place, rng: Random, w: float, d: float, h: float, style: Style) -> None:
    """Top and support of a table: four legs, a panel at each end, or one column."""
    thick, frame = (
        rng.uniform(0.02, 0.06),
        rng.choice([style.wood, style.wood, style.dark, style.metal, style.white]),
    )
    kind = rng.choice(["legs", "legs", "legs", "ends", "frame"])
    scene.box(place, (0, 0, h - thick / 2), (w, d, thick), style.wood_top)
    if kind == "legs":
        leg = rng.uniform(0.04, 0.1)
        legs(scene, place, w / 2 - leg, d / 2 - leg, h - thick, leg, frame, rng.choice([0.0, 0.0, 0.03]))
        for sy in (-1, 1):
            scene.box(place, (0, sy * (d / 2 - leg), h - thick - 0.04), (w - 2 * leg, 0.022, 0.08), frame)
        for sx in (-1, 1):
            scene.box(place, (sx * (w / 2 - leg), 0, h - thick - 0.04), (0.022, d - 2 * leg, 0.08), frame)
    elif kind == "ends":
        for sx in (-1, 1):
            scene.box(place, (sx * (w / 2 - 0.03), 0, (h - thick) / 2), (0.035, d * 0.94, h - thick), frame)
    else:
        for sx in (-1, 1):
            scene.bar(place, (sx * w * 0.4, -d * 0.42, 0.02), (sx * w * 0.4, d * 0.42, 0.02), 0.05, frame)
            scene.bar(place, (sx * w * 0.4, 0, 0.02), (sx * w * 0.4, 0, h - thick), 0.06, frame)


def table(rng: Random, style: Style, width: float, depth: float, height: float, things: list, count: int) -> Piece:
    """A rectangular table with things on it."""

    def build(scene: Scene, place: Place) -> None:
        _table_frame(scene, place, rng, width, depth, height, style)
        if rng.random() < 0.2:
            scene.box(place, (0, 0, height + 0.002), (width * 0.7, 0.35, 0.004), style.cushion)
        clutter.scatter(scene, place.at(0, 0, height + 0.0045), rng, width * 0.8, depth * 0.75, things, count)

    return Piece(width, depth, height, build, (width, depth))


def round_table(rng: Random, style: Style, width: float, height: float, things: list, count: int) -> Piece:
    def build(scene: Scene, place: Place) -> None:
        scene.mesh(place, DRUM, (0, 0, height - 0.02), (width, width, 0.04), style.wood_top)
        scene.bar(place, (0, 0, 0), (0, 0, height - 0.03), 0.08, style.dark, round=True)
        scene.mesh(place, DRUM, (0, 0, 0.015), (width * 0.5, width * 0.5, 0.03), style.dark)
        clutter.scatter(scene, place.at(0, 0, height + 0.001), rng, width * 0.55, width * 0.55, things, count)

    return Piece(width, width, height, build, (width, width))


def table_with_seats(rng: Random, style: Style, *, high: bool = False) -> Piece:
    """A table and the seats around it, pushed in or pulled out by different amounts."""
    height = rng.uniform(0.95, 1.08) if high else rng.uniform(0.7, 0.78)
    seat = bar_stool(rng, style) if high else rng.choice(SEATS)(rng, style)
    width, depth = rng.uniform(0.9, 2.3), rng.uniform(0.7, 1.05)
    is_round = rng.random() < 0.15
    count = rng.choice([0, 2, 4, 7, 12])
    core = (
        round_table(rng, style, depth + 0.2, height, clutter.DINING, count)
        if is_round
        else table(rng, style, width, depth, height, clutter.DINING, count)
    )
    along = 1 if is_round else max(1, int(width / rng.uniform(0.55, 0.75)))
    missing = rng.choice([0.0, 0.15, 0.4])

    def build(scene: Scene, place: Place) -> None:
        core.build(scene, place)
        spots = [((k + 0.5) / along - 0.5, s) for k in range(along) for s in (-1, 1)]
        for share, s in spots:
            if rng.random() >= missing:
                out = core.depth / 2 + rng.choice([-0.05, 0.1, 0.3]) + rng.gauss(0, 0.04) + 0.06
                seat(
                    scene,
                    place.at(share * core.width * 0.95, s * out, 0, (math.pi if s > 0 else 0) + rng.gauss(0, 0.15)),
                )
        for s in (-1, 1):
            if rng.random() < 0.5:
                out = core.width / 2 + rng.uniform(0.0, 0.3)
                seat(scene, place.at(s * out, 0, 0, s * math.pi / 2 + rng.gauss(0, 0.15)))

    return Piece(core.width + 1.0, core.depth + 1.0, height, build, core.top)


def desk(rng: Random, style: Style) -> Piece:
    """A desk with a screen at the back and an office chair in front."""
    width, depth, height = rng.uniform(1.1, 1.8), rng.uniform(0.6, 0.8), rng.uniform(0.7, 0.76)
    top, seat = (
        table(rng, style, width, depth, height, clutter.OFFICE, rng.randint(0, 3)),
        office_chair(rng, style),
    )
    screens = rng.choice([0, 1, 1, 2])

    def build(scene: Scene, place: Place) -> None:
        back = place.at(0, -0.35)
        top.build(scene, back)
        for k in range(screens):
            x = (k - (screens - 1) / 2) * 0.72
            devices.monitor(scene, back.at(x, -depth / 2 + 0.15, height + 0.001, rng.gauss(0, 0.12)), rng)
        if screens:
            devices.keyboard(scene, back.at(0, 0.12, height + 0.001), rng)
        if rng.random() < 0.4:
            devices.desk_lamp(scene, back.at(-0.42 * width, -0.2, height + 0.001), rng)
        seat(
            scene,
            place.at(rng.gauss(0, 0.15), depth / 2 + rng.uniform(-0.25, 0.1), 0, math.pi + rng.gauss(0, 0.5)),
        )

    return Piece(width, depth + 0.7, height, build, (width, depth))
