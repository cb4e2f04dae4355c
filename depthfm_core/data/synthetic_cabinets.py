"""Shelves, cupboards, kitchens and televisions: what stands along walls, back towards -y."""

from random import Random

from . import synthetic_clutter as clutter
from . import synthetic_materials as mat
from .synthetic_pieces import Piece, Style
from .synthetic_scene import PEBBLE, Place, Scene


def bookshelf(rng: Random, style: Style) -> Piece:
    """An open case of boards with books and things."""
    width, depth, height = rng.uniform(0.6, 1.6), rng.uniform(0.24, 0.36), rng.uniform(0.8, 2.2)
    case, levels = (
        rng.choice([style.wood, style.wood, style.white, style.dark]),
        max(2, round(height / rng.uniform(0.3, 0.4))),
    )
    bays = max(1, round(width / 0.8))

    def build(scene: Scene, place: Place) -> None:
        for k in range(bays + 1):
            scene.box(place, ((k / bays - 0.5) * width, 0, height / 2), (0.022, depth, height), case)
        scene.box(place, (0, -depth / 2 + 0.005, height / 2), (width, 0.01, height), case)
        gap = height / levels
        for level in range(levels + 1):
            scene.box(place, (0, 0, max(0.05, level * gap - 0.011)), (width, depth, 0.022), case)
            for k in range(bays if level < levels else 0):
                bay = place.at(((k + 0.5) / bays - 0.5) * width, 0, max(0.06, level * gap))
                row_of_books(scene, bay, rng, width / bays - 0.04, depth, gap - 0.06)

    return Piece(width, depth, height, build)


def row_of_books(scene: Scene, place: Place, rng: Random, width: float, depth: float, height: float) -> None:
    """Upright spines from one side, then sometimes a few things."""
    x, stop = -width / 2, width / 2 - width * rng.choice([0.0, 0.1, 0.5, 0.9])
    covers = [
        scene.material(mat.row(rng, mat.any_color(rng), mat.muted(rng), mat.any_color(rng), pattern=mat.tx.SPINE))
        for _ in range(5)
    ]
    while x < stop - 0.05:
        thick, high, deep = (
            rng.uniform(0.015, 0.05),
            height * rng.uniform(0.6, 0.98),
            depth * rng.uniform(0.55, 0.85),
        )
        scene.box(
            place,
            (x + thick / 2, deep / 2 - depth / 2 + 0.02, high / 2),
            (thick * 0.95, deep, high),
            rng.choice(covers),
        )
        x += thick
    if width / 2 - x > 0.2:
        kinds = [k for k in clutter.SHELF if k is not clutter.plant]
        spot = place.at((x + width / 2) / 2, 0)
        clutter.scatter(scene, spot, rng, max(0.01, width / 2 - x - 0.25), depth * 0.2, kinds, 2)


def cupboard(
    rng: Random,
    style: Style,
    width: float,
    depth: float,
    height: float,
    base: float = 0.0,
    front: int | None = None,
) -> Piece:
    """A box with drawers or doors and handles, its top (if low) set with things."""
    body = rng.choice([style.wood, style.wood, style.white, style.dark, style.fabric]) if front is None else front
    columns, rows = (
        max(1, round(width / rng.uniform(0.4, 0.6))),
        rng.choice([1, 2, 3, 4]) if height < 1.3 else rng.choice([1, 2]),
    )
    handle = rng.choice(["bar", "knob", "bar", "none"])

    def build(scene: Scene, place: Place) -> None:
        scene.box(place, (0, 0, base + height / 2 + 0.02), (width, depth, height - 0.04), body)
        for i in range(columns):
            for j in range(rows):
                x, z = ((i + 0.5) / columns - 0.5) * width, base + 0.04 + (j + 0.5) / rows * (height - 0.06)
                w, h = width / columns - 0.012, (height - 0.06) / rows - 0.012
                scene.box(place, (x, depth / 2 + 0.008, z), (w, 0.016, h), body)
                upright = rows == 1
                at = (x + (w / 2 - 0.05 if upright else 0), depth / 2 + 0.03, z if upright else z + 0.2 * h)
                if handle == "bar":
                    scene.box(
                        place,
                        at,
                        (0.014, 0.02, 0.16) if upright else (min(0.16, w / 2), 0.02, 0.014),
                        style.metal,
                    )
                elif handle == "knob":
                    scene.mesh(place, PEBBLE, at, (0.032, 0.032, 0.032), style.metal)
        if 0.5 < base + height < 1.4:
            clutter.scatter(
                scene,
                place.at(0, 0, base + height),
                rng,
                width * 0.8,
                depth * 0.4,
                clutter.SHELF,
                rng.choice([0, 2, 4]),
            )

    return Piece(width, depth, base + height, build)


def sideboard(rng: Random, style: Style) -> Piece:
    return cupboard(rng, style, rng.uniform(0.6, 1.8), rng.uniform(0.35, 0.5), rng.uniform(0.6, 1.1))


def wardrobe(rng: Random, style: Style) -> Piece:
    return cupboard(rng, style, rng.uniform(0.8, 1.8), rng.uniform(0.5, 0.62), rng.uniform(1.8, 2.2))


def fridge(rng: Random, style: Style) -> Piece:
    width, height = rng.uniform(0.55, 0.75), rng.uniform(1.4, 1.9)
    look = mat.metal(rng) if rng.random() < 0.5 else mat.plain(rng, (0.9, 0.9, 0.9))

    def build(scene: Scene, place: Place) -> None:
        shell = scene.material(look)
        scene.box(place, (0, 0, height / 2), (width, 0.62, height), shell)
        for low, high in ((0.03, 0.32 * height), (0.34 * height, height - 0.01)):
            scene.box(place, (0, 0.33, (low + high) / 2), (width, 0.03, high - low), shell)
            scene.box(
                place,
                (width / 2 - 0.05, 0.36, (low + high) / 2),
                (0.02, 0.03, 0.4 * (high - low)),
                style.metal,
            )

    return Piece(width, 0.68, height, build)


def kitchen_run(rng: Random, style: Style, width: float) -> Piece:
    """Base units with a worktop, splash-back tiles, things on it, and wall units or a shelf above."""
    front = rng.choice(
        [
            mat.plain(rng, mat.vary(rng, (0.9, 0.9, 0.88), 0.05)),
            mat.plain(rng),
            mat.wood(rng),
            mat.plain(rng, mat.vivid(rng)),
        ]
    )
    worktop, splash = (
        rng.choice([mat.marble(rng), mat.wood(rng), mat.plain(rng)]),
        mat.tiles(rng, rng.choice([0.05, 0.1, 0.15, 0.2])),
    )
    upper, has_sink = rng.choice(["units", "units", "shelf", "none"]), rng.random() < 0.6

    def build(scene: Scene, place: Place) -> None:
        face, slab = scene.material(front), scene.material(worktop)
        scene.box(place, (0, -0.03, 0.05), (width, 0.5, 0.1), style.dark)
        cupboard(rng, style, width, 0.56, 0.78, 0.09, face).build(scene, place)
        scene.box(place, (0, 0.01, 0.89), (width + 0.01, 0.62, 0.036), slab)
        scene.box(place, (0, -0.296, 1.18), (width, 0.012, 0.55), scene.material(splash))
        clutter.scatter(
            scene,
            place.at(0, -0.05, 0.909),
            rng,
            width * 0.9,
            0.3,
            [*clutter.DINING, *clutter.SHELF],
            int(width * rng.uniform(0.5, 4)),
        )
        if has_sink:
            _sink(scene, place.at(rng.uniform(-0.3, 0.3) * width, 0, 0.908), style)
        if upper == "units":
            cupboard(rng, style, width, 0.32, 0.65, 1.45, face).build(scene, place.at(0, -0.14))
        elif upper == "shelf":
            scene.box(place, (0, -0.17, 1.45), (width * 0.9, 0.24, 0.03), face)
            clutter.scatter(scene, place.at(0, -0.17, 1.466), rng, width * 0.85, 0.06, clutter.SHELF, int(width * 3))

    return Piece(width, 0.62, 1.5, build)


def _sink(scene: Scene, place: Place, style: Style) -> None:
    scene.box(place, (0, 0, 0.002), (0.6, 0.42, 0.004), style.metal)
    scene.bar(place, (0, -0.18, 0), (0, -0.18, 0.26), 0.025, style.metal, round=True)
    scene.bar(place, (0, -0.18, 0.26), (0, -0.02, 0.24), 0.022, style.metal, round=True)


def television(rng: Random, style: Style) -> Piece:
    """A low board with a television."""
    low, size = (
        cupboard(rng, style, rng.uniform(1.2, 2.0), 0.4, rng.uniform(0.35, 0.49)),
        rng.uniform(0.9, 1.3),
    )

    def build(scene: Scene, place: Place) -> None:
        low.build(scene, place)
        z = low.height
        scene.box(place, (0, 0, z + 0.03), (0.4, 0.2, 0.06), style.dark)
        scene.box(place, (0, -0.02, z + 0.06 + 0.28 * size), (size, 0.05, 0.56 * size), style.dark)
        screen = mat.poster(rng) if rng.random() < 0.3 else mat.plain(rng, (0.03, 0.03, 0.035), gloss=1.0)
        scene.box(
            place,
            (0, 0.006, z + 0.06 + 0.28 * size),
            (size - 0.03, 0.004, 0.56 * size - 0.03),
            scene.material(screen),
        )

    return Piece(low.width, 0.42, 1.1, build)
