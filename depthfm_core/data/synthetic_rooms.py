"""Furnished rooms: the shell of a room of some kind, and its furniture placed without collisions."""

import math
from random import Random

from . import synthetic_clutter as clutter
from . import synthetic_fittings as fittings
from . import synthetic_materials as mat
from . import synthetic_people as people
from . import synthetic_seats as seats
from . import synthetic_shell as shell
from .synthetic_pieces import Piece, draw_style
from .synthetic_room_kinds import FLOORS, KINDS, WEIGHTS, RoomKind
from .synthetic_scene import Place, Scene
from .synthetic_shell import Room, Wall


def build_room(rng: Random) -> Room:
    """A furnished, lit room of a random kind."""
    kind = KINDS[rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]]
    scene = Scene()
    width, length, height = rng.uniform(*kind.width), rng.uniform(*kind.length), rng.uniform(2.3, 3.1)
    style = draw_style(scene, rng)
    room = Room(scene, style, width, length, height, shell.make_walls(width, length))
    _enclose(room, kind, rng)
    for builder, least, most in kind.wall:
        for _ in range(rng.randint(least, most)):
            _place_at_wall(room, rng, builder(rng, style))
    if rng.random() < 0.25 and width > 3 and length > 4:
        _partition(room, rng)
    for builder, least, most in kind.middle:
        for _ in range(rng.randint(least, most)):
            _place_in_middle(room, rng, builder(rng, style))
    for wall in room.walls:
        for _ in range(rng.choice([0, 1, 2, 3, 5])):
            fittings.picture(room, wall, rng)
    if width > 2.5 and rng.random() < 0.4:
        _rug(room, rng)
    _litter(room, rng)
    return room


def inhabit(room: Room, rng: Random) -> None:
    """Adds people, pets and mirrors to a finished room, or leaves it as it is."""
    for _ in range(rng.choice([0, 0, 0, 0, 1, 1, 2, 4])):
        _add_person(room, rng)
    for _ in range(rng.choice([0] * 7 + [1, 2])):
        animal = Piece(0.4, 1.0, 0.7, lambda scene, place: people.pet(scene, place, rng))
        _place_in_middle(room, rng, animal, rng.uniform(0, 2 * math.pi))
    for wall in room.walls:
        if rng.random() < 0.05:
            fittings.mirror(room, wall, rng)


def _add_person(room: Room, rng: Random) -> None:
    """Someone who stands where the floor is free, or sits there on a seat of their own."""
    seat = rng.choice([None, None, *seats.SEATS, seats.armchair])

    def build(scene: Scene, place: Place) -> None:
        if seat is None:
            face = people.standing(scene, place, rng)
        else:
            seat(rng, room.style)(scene, place)
            face = people.seated(scene, place, rng)
        room.faces.append((*face, place.yaw))

    piece = Piece(0.6, 0.5, 1.7, build) if seat is None else Piece(0.65, 0.9, 1.3, build)
    _place_in_middle(room, rng, piece, rng.uniform(0, 2 * math.pi))


def _enclose(room: Room, kind: RoomKind, rng: Random) -> None:
    """Floor, ceiling, walls with their openings, lights, and a dim hall for open doors."""
    scene, w, d, h = room.scene, room.width, room.length, room.height
    floor = scene.material(FLOORS[rng.choice(kind.floors)](rng))
    around = Place(w / 2, d / 2)
    scene.box(around, (0, 0, -0.05), (w + 8, d + 8, 0.1), floor)
    ceiling = mat.paint(rng, (0.93, 0.93, 0.92)) if rng.random() < 0.9 else mat.wood(rng, planks=True)
    scene.box(around, (0, 0, h + 0.05), (w + 8, d + 8, 0.1), scene.material(ceiling))
    hall = scene.material(mat.paint(rng))
    outer = shell.make_walls(w + 6, d + 6)
    for wall in outer:
        spot = Place(wall.place.x - 3, wall.place.y - 3, 0, wall.place.yaw)
        shell.add_wall(scene, Wall(spot, wall.length), h, [], hall, None)
    color = mat.vary(rng, rng.choice(mat.WALLS), 0.06) if rng.random() < 0.92 else mat.any_color(rng)
    plaster = scene.material(mat.paint(rng, color))
    accent = scene.material(rng.choice([mat.bricks, mat.tiles, mat.wood, mat.paint, mat.fabric])(rng))
    skirting = rng.choice([None, room.style.trim, room.style.trim, room.style.wood, room.style.dark])
    daylight = rng.choice([0.0, 0.8, 1.5, 2.5, 4.0])
    for k, wall in enumerate(room.walls):
        openings = _openings(room, wall, rng, daylight)
        shell.add_wall(scene, wall, h, openings, accent if k == 2 and rng.random() < 0.3 else plaster, skirting)
    room.lights = sorted(room.lights, key=lambda light: -sum(light[9:12]))[:1]
    fittings.ceiling_lamps(room, rng, rng.choice([0.5, 2.0, 4.0]) * (1 if daylight > 0.5 else 2))


def _openings(room: Room, wall: Wall, rng: Random, daylight: float) -> list[tuple[float, float, float, float]]:
    """Draws doors and windows for a wall; returns the holes they need."""
    holes = []
    for _ in range(rng.choice([0, 1, 1, 2]) if wall.length > 2 else rng.choice([0, 1])):
        middle = rng.uniform(0.12, 0.88) * wall.length
        if rng.random() < 0.45:
            width = rng.choice([0.8, 0.85, 0.9, 1.4])
            if wall.take(middle, width + 0.3, 0, 2.1) and shell.door(room, wall, rng, middle, width):
                holes.append((middle - width / 2, middle + width / 2, 0.0, 2.05))
                center = wall.place.at(middle, 0.4)
                room.taken.append((center.x - 0.4, center.y - 0.4, center.x + 0.4, center.y + 0.4, 0.0))
        elif daylight > 0:
            width, low = rng.uniform(0.7, 2.2), rng.choice([0.1, 0.8, 0.9, 1.0])
            high = min(rng.uniform(1.9, 2.3), room.height - 0.15)
            if wall.take(middle, width + 0.3, max(low - 0.1, 0.95), high):
                fittings.window(room, wall, rng, middle, width, low, high, daylight)
                holes.append((middle - width / 2, middle + width / 2, low, high))
    return holes


def _reserve(room: Room, place: Place, piece: Piece, margin: float) -> bool:
    """Takes the floor rectangle of a piece if it lies in the room and is free."""
    c, s = abs(math.cos(place.yaw)), abs(math.sin(place.yaw))
    half_x, half_y = (c * piece.width + s * piece.depth) / 2, (s * piece.width + c * piece.depth) / 2
    x0, y0, x1, y1 = place.x - half_x, place.y - half_y, place.x + half_x, place.y + half_y
    inside = x0 >= -0.01 and y0 >= -0.01 and x1 <= room.width + 0.01 and y1 <= room.length + 0.01
    if not inside or not room.is_free(x0 - margin, y0 - margin, x1 + margin, y1 + margin):
        return False
    room.taken.append((x0, y0, x1, y1, piece.height))
    if piece.top is not None:
        room.tables.append((place, *piece.top, piece.height))
    room.subjects.append((place.x, place.y, 0.6 * piece.height))
    return True


def _place_at_wall(room: Room, rng: Random, piece: Piece) -> None:
    for _ in range(8):
        wall = rng.choice(room.walls)
        if wall.length < piece.width + 0.1:
            continue
        along = rng.uniform(piece.width / 2 + 0.02, wall.length - piece.width / 2 - 0.02)
        place = wall.place.at(along, piece.depth / 2 + 0.02)
        if any(
            a < along + piece.width / 2 and b > along - piece.width / 2 and low < piece.height
            for a, b, low, _ in wall.used
        ):
            continue
        if _reserve(room, place, piece, 0.0):
            wall.take(along, piece.width, 0, piece.height)
            piece.build(room.scene, place)
            return


def _place_in_middle(room: Room, rng: Random, piece: Piece, heading: float | None = None) -> None:
    """Somewhere on the free floor, along the walls or nearly so unless a heading is given."""
    for _ in range(8):
        turn = _along_walls(rng) if heading is None else heading
        place = Place(rng.uniform(0.15, 0.85) * room.width, rng.uniform(0.15, 0.85) * room.length, 0, turn)
        if _reserve(room, place, piece, 0.05):
            piece.build(room.scene, place)
            return


def _along_walls(rng: Random) -> float:
    return rng.choice([0, 1, 2, 3]) * math.pi / 2 + (rng.gauss(0, 0.15) if rng.random() < 0.4 else 0)


def _partition(room: Room, rng: Random) -> None:
    """A wall that juts into the room and makes it an L."""
    wall = rng.choice(room.walls)
    reach, along = rng.uniform(0.8, 1.8), rng.uniform(0.3, 0.7) * wall.length
    piece = Piece(0.12, reach, room.height, lambda *_: None)
    place = wall.place.at(along, reach / 2)
    if _reserve(room, place, piece, 0.0):
        room.subjects.pop()
        color = room.scene.material(mat.paint(rng))
        room.scene.box(place, (0, 0, room.height / 2), (0.12, reach, room.height), color)


def _rug(room: Room, rng: Random) -> None:
    at = Place(
        rng.uniform(0.35, 0.65) * room.width,
        rng.uniform(0.3, 0.7) * room.length,
        0,
        rng.choice([0, 0, rng.gauss(0, 0.2)]),
    )
    size = (rng.uniform(0.4, 0.7) * room.width, rng.uniform(0.3, 0.5) * room.length, 0.012)
    room.scene.box(at, (0, 0, 0.006), size, room.scene.material(mat.carpet(rng)))


def _litter(room: Room, rng: Random) -> None:
    """Things left on the floor, mostly near the walls."""
    for _ in range(rng.choice([0, 0, 2, 4, 7])):
        wall = rng.choice(room.walls)
        place = wall.place.at(
            rng.uniform(0.05, 0.95) * wall.length, abs(rng.gauss(0.2, 0.5)) + 0.17, 0.0, rng.uniform(0, 6)
        )
        x, y = place.x, place.y
        inside = 0.2 < x < room.width - 0.2 and 0.2 < y < room.length - 0.2
        if inside and room.is_free(x - 0.2, y - 0.2, x + 0.2, y + 0.2):
            room.taken.append((x - 0.2, y - 0.2, x + 0.2, y + 0.2, 0.3))
            rng.choice(clutter.FLOOR)(room.scene, place.at(0, 0, 0.013), rng)
