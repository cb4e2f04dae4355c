"""The shell of a room: walls with holes for doors and windows, and the record of what is taken.

A wall is a `Place` whose x runs along it, y points into the room and z up, so everything that leans on a
wall is written once for all four.
"""

import math
from dataclasses import dataclass, field
from random import Random

from .synthetic_pieces import Style
from .synthetic_scene import Place, Scene

THICKNESS_M = 0.14


@dataclass
class Wall:
    """One side of the room; `used` lists (from, to, bottom, top) along it."""

    place: Place
    length: float
    used: list[tuple[float, float, float, float]] = field(default_factory=list)

    def take(self, middle: float, width: float, bottom: float, top: float) -> bool:
        """Reserves a rectangle of the wall, if it is free and fits."""
        a, b = middle - width / 2, middle + width / 2
        clash = any(a < q and b > p and bottom < s and top > r for p, q, r, s in self.used)
        if clash or a < 0.02 or b > self.length - 0.02:
            return False
        self.used.append((a, b, bottom, top))
        return True


@dataclass
class Room:
    """A room being furnished: its measures, walls, lights (rows of LIGHT_COLUMNS) and the floor taken."""

    scene: Scene
    style: Style
    width: float
    length: float
    height: float
    walls: list[Wall]
    lights: list[list[float]] = field(default_factory=list)
    taken: list[tuple[float, float, float, float, float]] = field(default_factory=list)  # x0, y0, x1, y1, top
    tables: list[tuple[Place, float, float, float]] = field(default_factory=list)  # place, width, depth, height
    subjects: list[tuple[float, float, float]] = field(default_factory=list)  # points worth looking at
    faces: list[tuple[float, float, float, float]] = field(default_factory=list)  # point and heading of people's faces

    def is_free(self, x0: float, y0: float, x1: float, y1: float, bottom: float = 0.0) -> bool:
        """Whether nothing on a rectangle of the floor reaches up to `bottom`."""
        return all(x1 < a or x0 > c or y1 < b or y0 > d or bottom > top for a, b, c, d, top in self.taken)


def make_walls(width: float, length: float) -> list[Wall]:
    """South, east, north and west wall of a rectangle with a corner at the origin."""
    quarter = math.pi / 2
    corners = [(0, 0, width), (width, 0, length), (width, length, width), (0, length, length)]
    return [Wall(Place(x, y, 0.0, k * quarter), side) for k, (x, y, side) in enumerate(corners)]


def add_wall(scene: Scene, wall: Wall, height: float, openings: list, material: int, skirting: int | None) -> None:
    """Boxes around the openings (from, to, bottom, top) of a wall, and the skirting board below them."""
    edges = [0.0]
    for a, b, low, high in sorted(openings):
        edges += [a, b]
        for z0, z1 in ((0.0, low), (high, height)):
            if z1 - z0 > 0.01:
                scene.box(
                    wall.place,
                    ((a + b) / 2, -THICKNESS_M / 2, (z0 + z1) / 2),
                    (b - a, THICKNESS_M, z1 - z0),
                    material,
                )
        if low > 0.2 and skirting is not None:
            scene.box(wall.place, ((a + b) / 2, 0.007, 0.045), (b - a, 0.014, 0.09), skirting)
    edges.append(wall.length)
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        if b - a > 0.01:
            scene.box(
                wall.place,
                ((a + b) / 2, -THICKNESS_M / 2, height / 2),
                (b - a, THICKNESS_M, height),
                material,
            )
            if skirting is not None:
                scene.box(wall.place, ((a + b) / 2, 0.007, 0.045), (b - a, 0.014, 0.09), skirting)


def door(room: Room, wall: Wall, rng: Random, middle: float, width: float) -> bool:
    """Frame, and a leaf that is shut or stands open; returns whether the wall needs a hole for it."""
    scene, place, trim, top = room.scene, wall.place, room.style.trim, 2.05
    for side in (-1, 1):
        scene.box(place, (middle + side * (width / 2 + 0.035), 0.012, top / 2), (0.07, 0.024, top), trim)
    scene.box(place, (middle, 0.012, top + 0.035), (width + 0.14, 0.024, 0.07), trim)
    leaf = rng.choice([trim, room.style.wood, room.style.white])
    kind = rng.choice(["shut", "open", "ajar"])
    if kind == "shut":
        scene.box(place, (middle, 0.004, top / 2), (width, 0.008, top), leaf)
        for low, high in rng.choice([[], [(0.15, 0.95), (1.1, 1.9)], [(0.15, 1.9)]]):
            scene.box(place, (middle, 0.01, (low + high) / 2), (width * 0.68, 0.012, high - low), leaf)
        scene.bar(
            place,
            (middle + width * 0.42, 0.05, 1.02),
            (middle + width * 0.3, 0.05, 1.02),
            0.02,
            room.style.metal,
        )
        return False
    if kind == "ajar":
        hinge = place.at(middle - width / 2, 0.03, 0.0, rng.uniform(0.5, 1.9))
        scene.box(hinge, (width / 2, 0.02, top / 2 + 0.01), (width, 0.04, top), leaf)
        reach = hinge.at(width / 2, 0)
        room.taken.append((reach.x - width / 2, reach.y - width / 2, reach.x + width / 2, reach.y + width / 2, top))
    return True
