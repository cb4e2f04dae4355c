"""Chairs, stools, sofas and beds; front towards +y, back towards -y."""

import math
from collections.abc import Callable
from random import Random

from . import synthetic_materials as mat
from .synthetic_pieces import Piece, Style, legs
from .synthetic_scene import CUSHION, PEBBLE, Place, Scene


def _chair_back(
    scene: Scene,
    place: Place,
    rng: Random,
    kind: str,
    w: float,
    seat: float,
    top: float,
    depth: float,
    frame: int,
    cover: int,
) -> None:
    """Posts leaning back from the seat and what is between them."""
    lean = 0.16 * (top - seat)
    y0, y1, x = -depth / 2 + 0.02, -depth / 2 + 0.02 - lean, w / 2 - 0.025

    def at(share: float, side: float) -> tuple[float, float, float]:
        return side * x, y0 + (y1 - y0) * share, seat + (top - seat) * share

    for side in (-1, 1):
        scene.bar(place, at(0, side), at(1, side), 0.035, frame)
    if kind == "ladder":
        for k in range(rng.randint(2, 5)):
            share = 0.97 - k * rng.uniform(0.16, 0.24)
            scene.slab(
                place,
                (0, at(share, 0)[1], at(share, 0)[2]),
                (w - 0.05, 0.018, rng.uniform(0.04, 0.09)),
                frame,
                math.atan(0.16),
            )
    elif kind == "slats":
        for k in range(count := rng.randint(3, 7)):
            side = -1 + 2 * (k + 1) / (count + 1)
            scene.bar(place, at(0.1, side), at(0.95, side), 0.02, frame)
        for share in (0.15, 0.95):
            scene.slab(place, (0, at(share, 0)[1], at(share, 0)[2]), (w - 0.04, 0.022, 0.07), frame, math.atan(0.16))
    else:
        middle = at(0.58, 0)
        scene.slab(place, middle, (w - 0.03, 0.03, 0.8 * (top - seat)), cover, math.atan(0.16))


def chair(rng: Random, style: Style) -> Callable[[Scene, Place], None]:
    """A builder of equal dining chairs."""
    w, d = rng.uniform(0.4, 0.5), rng.uniform(0.4, 0.48)
    seat, top = rng.uniform(0.43, 0.48), rng.uniform(0.78, 1.05)
    frame = rng.choice([style.wood, style.wood, style.wood, style.dark, style.metal, style.white])
    cover = rng.choice([frame, frame, style.fabric, style.cushion])
    kind, splay, look = (
        rng.choice(["ladder", "ladder", "slats", "solid"]),
        rng.choice([0.0, 0.0, 0.04]),
        rng.randrange(1 << 30),
    )
    thick = rng.uniform(0.03, 0.055)

    def build(scene: Scene, place: Place) -> None:
        own = Random(look)  # the same drawing for every chair of the set
        legs(scene, place, w / 2 - 0.03, d / 2 - 0.03, seat, thick, frame, splay)
        scene.box(place, (0, 0, seat), (w, d, 0.03), frame)
        if cover != frame:
            scene.mesh(place, CUSHION, (0, 0, seat + 0.02), (w * 0.96, d * 0.96, 0.06), cover)
        if look % 2:
            for side in (-1, 1):
                scene.bar(
                    place,
                    (side * (w / 2 - 0.03), -d / 2, 0.18),
                    (side * (w / 2 - 0.03), d / 2 - 0.03, 0.18),
                    0.022,
                    frame,
                )
        _chair_back(scene, place, own, kind, w, seat, top, d, frame, cover)

    return build


def shell_chair(rng: Random, style: Style) -> Callable[[Scene, Place], None]:
    """A plastic shell on splayed legs."""
    shell, frame = rng.choice([style.white, style.dark, style.fabric]), rng.choice([style.wood, style.metal])
    top = rng.uniform(0.75, 0.85)

    def build(scene: Scene, place: Place) -> None:
        legs(scene, place, 0.12, 0.12, 0.43, 0.025, frame, 0.1, round=True)
        scene.mesh(place, CUSHION, (0, 0, 0.45), (0.46, 0.44, 0.05), shell)
        scene.mesh(place, CUSHION, (0, -0.22, 0.45 + (top - 0.45) / 2), (0.44, 0.05, top - 0.42), shell, tilt=0.22)

    return build


def office_chair(rng: Random, style: Style) -> Callable[[Scene, Place], None]:
    cover, arms = rng.choice([style.dark, style.fabric]), rng.random() < 0.7

    def build(scene: Scene, place: Place) -> None:
        for k in range(5):
            a = k * 1.2566
            scene.bar(place, (0, 0, 0.09), (0.3 * math.cos(a), 0.3 * math.sin(a), 0.05), 0.04, style.dark)
            scene.mesh(place, PEBBLE, (0.3 * math.cos(a), 0.3 * math.sin(a), 0.03), (0.06, 0.06, 0.06), style.dark)
        scene.bar(place, (0, 0, 0.06), (0, 0, 0.45), 0.06, style.metal, round=True)
        scene.mesh(place, CUSHION, (0, 0, 0.48), (0.5, 0.5, 0.1), cover)
        scene.bar(place, (0, -0.23, 0.44), (0, -0.28, 0.65), 0.05, style.dark)
        scene.mesh(place, CUSHION, (0, -0.27, 0.8), (0.46, 0.08, 0.55), cover, tilt=0.12)
        if arms:
            for side in (-1, 1):
                scene.bar(place, (side * 0.27, -0.05, 0.46), (side * 0.27, -0.05, 0.66), 0.03, style.dark)
                scene.box(place, (side * 0.27, 0.0, 0.67), (0.06, 0.28, 0.03), style.dark)

    return build


def bar_stool(rng: Random, style: Style) -> Callable[[Scene, Place], None]:
    """A high seat on slanting legs with a foot rest and a low back."""
    seat, frame = rng.uniform(0.62, 0.78), rng.choice([style.wood, style.metal, style.dark])
    cover, low_back = rng.choice([style.dark, style.fabric, style.wood]), rng.random() < 0.7

    def build(scene: Scene, place: Place) -> None:
        legs(scene, place, 0.15, 0.15, seat, 0.032, frame, 0.07, round=frame != style.wood)
        reach = 0.15 + 0.07 * 0.68
        for a, b in (((-1, -1), (1, -1)), ((1, -1), (1, 1)), ((1, 1), (-1, 1)), ((-1, 1), (-1, -1))):
            scene.bar(place, (a[0] * reach, a[1] * reach, 0.22), (b[0] * reach, b[1] * reach, 0.22), 0.022, frame)
        scene.mesh(place, CUSHION, (0, 0, seat), (0.4, 0.38, 0.07), cover)
        if low_back:
            for side in (-1, 1):
                scene.bar(place, (side * 0.14, -0.15, seat), (side * 0.16, -0.21, seat + 0.26), 0.025, frame)
            scene.mesh(place, CUSHION, (0, -0.2, seat + 0.2), (0.4, 0.05, 0.14), cover, tilt=0.2)

    return build


def armchair(rng: Random, style: Style) -> Callable[[Scene, Place], None]:
    return sofa(rng, style, 1).build


SEATS = [chair, chair, chair, shell_chair]


def stool(rng: Random, style: Style) -> Piece:
    build = bar_stool(rng, style)
    return Piece(0.45, 0.45, 0.9, build)


def single_seat(rng: Random, style: Style) -> Piece:
    return Piece(0.5, 0.55, 0.95, rng.choice([*SEATS, office_chair])(rng, style))


def sofa(rng: Random, style: Style, seats: int) -> Piece:
    """An armchair (one seat) or a sofa of rounded cushions; a high back makes a wing chair."""
    seat_w, arm = rng.uniform(0.55, 0.7), rng.uniform(0.1, 0.22)
    width, depth, top = (
        seats * seat_w + 2 * arm,
        rng.uniform(0.78, 0.95),
        rng.uniform(0.75, 1.15 if seats == 1 else 0.92),
    )
    cover, pillow = style.fabric, style.cushion

    def build(scene: Scene, place: Place) -> None:
        legs(scene, place, width / 2 - 0.08, depth / 2 - 0.08, 0.14, 0.05, style.dark, 0.0)
        scene.box(place, (0, 0, 0.22), (width - 0.04, depth - 0.04, 0.2), cover)
        scene.mesh(
            place,
            CUSHION,
            (0, -depth / 2 + 0.1, (top + 0.12) / 2),
            (width, 0.24, top - 0.12),
            cover,
            tilt=0.08,
        )
        for side in (-1, 1):
            scene.mesh(place, CUSHION, (side * (width / 2 - arm / 2), 0.02, 0.38), (arm * 1.15, depth, 0.5), cover)
            if seats == 1 and top > 0.95:
                scene.mesh(
                    place,
                    CUSHION,
                    (side * (width / 2 - 0.07), -depth / 4, top - 0.28),
                    (0.12, 0.4, 0.5),
                    cover,
                )
        for k in range(seats):
            x = (k - (seats - 1) / 2) * seat_w
            scene.mesh(place, CUSHION, (x, 0.06, 0.39), (seat_w * 1.02, depth * 0.8, 0.2), cover)
            scene.mesh(place, CUSHION, (x, -depth / 2 + 0.26, 0.62), (seat_w, 0.18, 0.42), cover, tilt=0.2)
            if rng.random() < 0.4:
                turned = place.at(x + rng.gauss(0, 0.08), -depth / 2 + 0.4, 0.64, rng.gauss(0, 0.3))
                scene.mesh(turned, CUSHION, (0, 0, 0), (0.42, 0.16, 0.4), pillow, tilt=0.35)

    return Piece(width, depth, top, build)


def bed(rng: Random, style: Style) -> Piece:
    width, length, top = rng.choice([0.9, 1.4, 1.6]), 2.05, rng.uniform(0.8, 1.2)
    sheet, cover = mat.fabric(rng, (0.88, 0.87, 0.85)), mat.fabric(rng)

    def build(scene: Scene, place: Place) -> None:
        cloth, blanket = scene.material(sheet), scene.material(cover)
        scene.box(place, (0, 0, 0.2), (width, length, 0.2), style.wood)
        scene.box(place, (0, -length / 2, top / 2), (width + 0.06, 0.06, top), style.wood)
        scene.mesh(place, CUSHION, (0, 0.02, 0.4), (width * 0.99, length * 0.98, 0.26), cloth)
        scene.mesh(place, CUSHION, (0, 0.3, 0.42), (width * 1.06, length * 0.72, 0.28), blanket)
        for x in [0.0] if width < 1 else [-width / 4, width / 4]:
            scene.mesh(place, CUSHION, (x, -length / 2 + 0.3, 0.56), (0.6, 0.4, 0.17), cloth, tilt=-0.2)

    return Piece(width + 0.1, length, top, build)
