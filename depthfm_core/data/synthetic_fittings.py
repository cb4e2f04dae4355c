"""What is fixed to the walls and the ceiling of a room: windows, pictures, radiators and lamps."""

from random import Random

from . import synthetic_clutter as clutter
from . import synthetic_materials as mat
from .synthetic_scene import Place, Point, Scene, curtain, lathe
from .synthetic_shell import THICKNESS_M, Room, Wall


def window(
    room: Room,
    wall: Wall,
    rng: Random,
    middle: float,
    width: float,
    low: float,
    high: float,
    brightness: float,
) -> None:
    """A bright pane with bars, a sill, perhaps curtains; it also lights the room."""
    scene, place, tall, mid = room.scene, wall.place, high - low, (low + high) / 2
    tint = (0.9 + 0.1 * rng.random(), 0.95, 1.0)
    view = mat.row(rng, tint, (0.25, 0.33, 0.2), pattern=mat.tx.VIEW, contrast=rng.random(), emission=brightness)
    scene.box(place, (middle, -THICKNESS_M + 0.02, mid), (width, 0.02, tall), scene.material(view))
    frame = room.style.trim
    bars_x, bars_z = rng.randint(1, max(1, round(width / 0.6))), rng.randint(1, 2)
    for k in range(bars_x + 1):
        scene.box(place, (middle + (k / bars_x - 0.5) * (width - 0.05), -0.08, mid), (0.05, 0.05, tall), frame)
    for k in range(bars_z + 1):
        scene.box(place, (middle, -0.08, mid + (k / bars_z - 0.5) * (tall - 0.05)), (width, 0.05, 0.05), frame)
    scene.box(place, (middle, 0.03, low - 0.015), (width + 0.1, 0.16, 0.03), frame)
    strength = brightness * 1.1 * width * tall
    center, along = place.at(middle, 0.03, mid), place.at(middle + width / 2, 0.03, mid)
    half = (along.x - center.x, along.y - center.y, 0.0)
    room.lights.append([*center.point, *half, 0.0, 0.0, tall / 2, *(strength * c for c in tint), 1.0])
    if rng.random() < 0.25:
        _blind(room, place, rng, middle, width, low, high)
    if rng.random() < 0.5:
        _curtains(room, place, rng, middle, width, low, high)
    elif rng.random() < 0.5 and wall.take(middle, min(width, 1.2), 0.1, 0.7):
        _radiator(scene, place.at(middle, 0.07, 0.38), min(width, 1.2), room.style.white)


def _curtains(room: Room, place: Place, rng: Random, middle: float, width: float, low: float, high: float) -> None:
    cloth = room.scene.material(mat.fabric(rng))
    bottom, top = rng.choice([0.03, 0.03, low - 0.1]), min(high + 0.15, room.height - 0.05)
    wide = rng.uniform(0.25, 0.55) * width
    for side in (-1, 1):
        sheet = curtain(max(2, round(wide / 0.11)), 0.04 / 1.0)
        room.scene.mesh(
            place,
            sheet,
            (middle + side * (width / 2 + 0.08 - wide / 4), 0.15, (bottom + top) / 2),
            (wide, 1.0, top - bottom),
            cloth,
        )
    room.scene.bar(
        place,
        (middle - width * 0.7, 0.12, top + 0.01),
        (middle + width * 0.7, 0.12, top + 0.01),
        0.03,
        room.style.metal,
        round=True,
    )


def _blind(room: Room, place: Place, rng: Random, middle: float, width: float, low: float, high: float) -> None:
    """Tilted slats, let down part of the way."""
    drop, tilt = rng.uniform(0.3, 1.0) * (high - low), rng.uniform(-0.6, 0.6)
    for k in range(int(drop / 0.05)):
        room.scene.slab(
            place,
            (middle, -0.03, high - 0.02 - 0.05 * k),
            (width - 0.02, 0.035, 0.003),
            room.style.white,
            tilt,
        )


def _radiator(scene: Scene, place: Place, width: float, material: int) -> None:
    scene.box(place, (0, 0, 0), (width, 0.06, 0.5), material)
    for k in range(count := int(width / 0.06)):
        scene.box(place, (((k + 0.5) / count - 0.5) * width, 0.035, 0), (0.03, 0.02, 0.46), material)


def picture(room: Room, wall: Wall, rng: Random) -> None:
    """A framed picture, a shelf with things, or a notice board, where the wall is free."""
    width, tall = rng.choice([(0.3, 0.4), (0.5, 0.7), (0.7, 0.5), (1.2, 0.8), (0.21, 0.3)])
    middle, z = rng.uniform(0.05, 0.95) * wall.length, rng.uniform(1.4, 1.75)
    if not wall.take(middle, width + 0.1, z - tall / 2 - 0.05, z + tall / 2 + 0.05):
        return
    if rng.random() < 0.15:
        room.scene.box(wall.place, (middle, 0.11, z), (width + 0.05, 0.22, 0.03), room.style.wood)
        clutter.scatter(room.scene, wall.place.at(middle, 0.11, z + 0.016), rng, width * 0.8, 0.04, clutter.SHELF, 3)
        return
    if rng.random() < 0.75:
        _frame(room, wall, rng, (middle, 0.012, z), width, tall)
        mount = room.scene.material(mat.plain(rng, (0.93, 0.92, 0.9), gloss=0.4))
        room.scene.box(wall.place, (middle, 0.022, z), (width - 0.05, 0.008, tall - 0.05), mount)
    border = rng.choice([0.06, 0.06, 0.15])
    room.scene.box(
        wall.place,
        (middle, 0.024, z),
        (width - border, 0.008, tall - border),
        room.scene.material(mat.poster(rng, text=rng.choice([0.0, 0.0, 0.5]))),
    )


def _frame(room: Room, wall: Wall, rng: Random, at: Point, width: float, tall: float) -> None:
    material = rng.choice([room.style.wood, room.style.dark, room.style.metal, room.style.white])
    room.scene.box(wall.place, at, (width, 0.024, tall), material)


def mirror(room: Room, wall: Wall, rng: Random) -> None:
    """A framed mirror where the wall is free; its depth is that of the glass."""
    width, low, high = rng.choice([(0.4, 0.3, 1.8), (0.6, 1.1, 1.9), (0.9, 1.0, 2.0), (0.5, 1.2, 1.7)])
    middle = rng.uniform(0.1, 0.9) * wall.length
    if not wall.take(middle, width + 0.1, low - 0.05, high + 0.05):
        return
    tall, z = high - low, (low + high) / 2
    _frame(room, wall, rng, (middle, 0.012, z), width, tall)
    glass = room.scene.material(mat.row(rng, (0.2, 0.22, 0.22), mirror=rng.uniform(0.75, 0.95)))
    room.scene.box(wall.place, (middle, 0.024, z), (width - 0.06, 0.008, tall - 0.06), glass)


def ceiling_lamps(room: Room, rng: Random, strength: float) -> None:
    """Panels, domes or pendants in a row along the room; at most two of them cast light."""
    kind = rng.choice(["panel", "dome", "pendant", "none"] if room.length < 7 else ["panel", "panel", "dome"])
    warm = rng.choice([(1.0, 0.96, 0.9), (1.0, 0.85, 0.65), (0.95, 0.98, 1.0), (1.0, 0.9, 0.78)])
    count = max(1, int(room.length / rng.uniform(2.0, 3.5))) if kind != "pendant" else 1
    shine = room.scene.material(mat.glow(rng, warm, rng.uniform(2, 6)))
    size = rng.choice([(0.6, 0.6), (0.3, 1.2), (1.2, 0.2)])
    spots = [Place(room.width * rng.uniform(0.4, 0.6), room.length * (k + 0.5) / count) for k in range(count)]
    for spot in spots:
        _lamp(room, spot, kind, shine, size, rng)
    drop = {"panel": 0.06, "dome": 0.16, "pendant": 1.0, "none": 0.3}[kind]
    for spot in rng.sample(spots, min(2, count)):
        room.lights.append(
            [spot.x, spot.y, room.height - drop, 0.18, 0, 0, 0, 0.18, 0, *(strength * c for c in warm), 0.0]
        )


def _lamp(room: Room, spot: Place, kind: str, shine: int, size: tuple[float, float], rng: Random) -> None:
    if kind == "panel":
        room.scene.box(spot, (0, 0, room.height - 0.02), (*size, 0.05), shine)
    elif kind == "dome":
        room.scene.mesh(
            spot,
            lathe([(0.05, -0.5), (0.35, -0.35), (0.5, 0.2), (0.5, 0.5)], 20),
            (0, 0, room.height - 0.06),
            (0.36, 0.36, 0.13),
            shine,
        )
    elif kind == "pendant":
        room.scene.bar(spot, (0, 0, room.height - 0.8), (0, 0, room.height), 0.012, room.style.dark)
        shade = lathe([(0.5, -0.5), (0.2, 0.4), (0.05, 0.5)], 20)
        room.scene.mesh(
            spot,
            shade,
            (0, 0, room.height - 0.8),
            (0.4, 0.4, 0.28),
            rng.choice([shine, room.style.dark, room.style.white]),
        )
