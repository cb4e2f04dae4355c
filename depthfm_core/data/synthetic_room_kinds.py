"""Kinds of rooms as tables: how large they are, what stands in them, what their floor is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from . import synthetic_cabinets as cabinets
from . import synthetic_clutter as clutter
from . import synthetic_materials as mat
from . import synthetic_pieces as pieces
from . import synthetic_seats as seats
from . import synthetic_tables as tables
from .synthetic_pieces import Piece, Style


@dataclass(frozen=True)
class RoomKind:
    """How a kind of room is measured and furnished.

    size: (least, greatest) width and length in metres; middle and wall: builders of pieces with how many of
    each to try (least, most); floors: names of FLOORS to draw from.
    """

    width: tuple[float, float]
    length: tuple[float, float]
    middle: list[tuple[Callable[[Random, Style], Piece], int, int]]
    wall: list[tuple[Callable[[Random, Style], Piece], int, int]]
    floors: tuple[str, ...]


def _armchair(rng: Random, style: Style) -> Piece:
    return seats.sofa(rng, style, 1)


def _couch(rng: Random, style: Style) -> Piece:
    return seats.sofa(rng, style, rng.choice([2, 3]))


def _coffee_table(rng: Random, style: Style) -> Piece:
    return tables.table(
        rng,
        style,
        rng.uniform(0.7, 1.2),
        rng.uniform(0.5, 0.7),
        rng.uniform(0.36, 0.48),
        clutter.DINING,
        rng.randint(0, 4),
    )


def _high_table(rng: Random, style: Style) -> Piece:
    return tables.table_with_seats(rng, style, high=True)


def _counter(rng: Random, style: Style) -> Piece:
    return cabinets.kitchen_run(rng, style, rng.uniform(1.6, 3.6))


FLOORS = {
    "planks": lambda rng: mat.wood(rng, planks=True),
    "tiles": mat.tiles,
    "carpet": mat.carpet,
    "concrete": lambda rng: mat.row(
        rng,
        mat.vary(rng, (0.5, 0.49, 0.47), 0.2),
        pattern=mat.tx.NOISE,
        scale=(0.3, 0.3),
        specular=0.3,
        mirror=rng.choice([0.0, 0.05]),
    ),
    "marble": mat.marble,
}


KINDS = {
    "kitchen": RoomKind(
        (2.8, 5),
        (3.2, 6),
        [(tables.table_with_seats, 1, 1), (seats.stool, 0, 2)],
        [(_counter, 1, 3), (cabinets.fridge, 0, 1), (pieces.bin_or_box, 0, 2), (cabinets.sideboard, 0, 1)],
        ("tiles", "planks", "carpet"),
    ),
    "dining": RoomKind(
        (3.2, 5.5),
        (3.5, 7),
        [(tables.table_with_seats, 1, 2), (_armchair, 0, 1)],
        [
            (cabinets.sideboard, 1, 4),
            (cabinets.bookshelf, 0, 1),
            (_couch, 0, 1),
            (pieces.house_plant, 0, 1),
            (pieces.floor_lamp, 0, 1),
        ],
        ("planks", "carpet", "carpet", "tiles"),
    ),
    "living": RoomKind(
        (3.2, 6),
        (3.8, 7.5),
        [(_coffee_table, 1, 1), (_armchair, 1, 2), (tables.table_with_seats, 0, 1)],
        [
            (_couch, 1, 3),
            (cabinets.television, 0, 1),
            (cabinets.bookshelf, 0, 3),
            (cabinets.sideboard, 0, 2),
            (pieces.floor_lamp, 0, 2),
            (pieces.house_plant, 0, 2),
        ],
        ("planks", "carpet", "carpet"),
    ),
    "office": RoomKind(
        (3, 7),
        (3.5, 8),
        [(tables.table_with_seats, 0, 1), (seats.single_seat, 0, 2)],
        [
            (tables.desk, 2, 5),
            (cabinets.bookshelf, 0, 3),
            (cabinets.sideboard, 0, 2),
            (cabinets.wardrobe, 0, 1),
            (pieces.bin_or_box, 0, 3),
            (pieces.house_plant, 0, 1),
        ],
        ("carpet", "carpet", "planks", "concrete"),
    ),
    "bedroom": RoomKind(
        (2.8, 4.5),
        (3.2, 5.5),
        [(seats.single_seat, 0, 1)],
        [
            (seats.bed, 1, 1),
            (cabinets.wardrobe, 0, 2),
            (cabinets.sideboard, 1, 2),
            (tables.desk, 0, 1),
            (pieces.floor_lamp, 0, 1),
        ],
        ("planks", "carpet"),
    ),
    "corridor": RoomKind(
        (1.3, 2.6),
        (6, 16),
        [(pieces.bin_or_box, 0, 1)],
        [
            (cabinets.sideboard, 0, 1),
            (pieces.bin_or_box, 0, 2),
            (seats.single_seat, 0, 2),
            (pieces.house_plant, 0, 1),
        ],
        ("tiles", "tiles", "concrete", "marble", "planks", "carpet"),
    ),
    "cafe": RoomKind(
        (5, 10),
        (6, 12),
        [
            (_high_table, 1, 4),
            (tables.table_with_seats, 2, 7),
            (seats.stool, 0, 4),
            (pieces.bin_or_box, 0, 1),
        ],
        [(_counter, 0, 1), (cabinets.sideboard, 0, 2), (pieces.house_plant, 0, 2)],
        ("tiles", "tiles", "planks", "concrete", "marble"),
    ),
}


WEIGHTS = {"kitchen": 20, "dining": 20, "living": 18, "office": 16, "bedroom": 7, "corridor": 9, "cafe": 10}
