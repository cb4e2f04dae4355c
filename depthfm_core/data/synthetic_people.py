"""People, standing or seated, and pets: rounded bodies of limbs, clothes and hair; the front is towards +y."""

from dataclasses import dataclass
from random import Random

from . import synthetic_materials as mat
from .synthetic_scene import BALL, CUSHION, PEBBLE, Place, Point, Scene, lathe

SKINS = [(0.88, 0.70, 0.58), (0.78, 0.58, 0.45), (0.58, 0.40, 0.29), (0.38, 0.25, 0.18)]
HAIRS = [(0.06, 0.05, 0.05), (0.2, 0.12, 0.07), (0.45, 0.3, 0.16), (0.75, 0.6, 0.38), (0.7, 0.7, 0.7)]
FURS = [(0.08, 0.07, 0.07), (0.55, 0.38, 0.2), (0.85, 0.82, 0.76), (0.4, 0.38, 0.36), (0.7, 0.5, 0.3)]
SKIRT = lathe([(0.5, -0.5), (0.36, 0.0), (0.26, 0.5), (0.25, 0.5), (0.48, -0.49)], 20)
_OUTLINE = [(0.001, -0.5), (0.38, -0.5), (0.43, -0.42), (0.39, -0.15), (0.48, 0.18), (0.49, 0.3), (0.42, 0.4)]
TRUNK = lathe([*_OUTLINE, (0.2, 0.48), (0.001, 0.5)], 20)
SHOULDER, NECK, HEAD = 1.4, 1.5, 1.62  # metres above the soles of someone who stands and is 1.74 m tall
HIP, SEATED_HIP = 0.92, 0.56


@dataclass(frozen=True)
class Body:
    """Someone's size (1 is 1.74 m), height of the hip, and the materials of the parts."""

    size: float
    hip: float
    skin: int
    hair: int
    top: int
    sleeves: int
    legs: int
    shoes: int

    def above(self, height: float) -> float:
        """The height of a point of the trunk, given for someone who stands."""
        return self.hip + (height - HIP) * self.size


def standing(scene: Scene, place: Place, rng: Random) -> Point:
    """Someone who stands or walks; returns where the face is."""
    body = _draw_body(scene, rng, seated=False)
    stride, apart, skirt = rng.uniform(0, 0.25), rng.uniform(0.07, 0.13), rng.random() < 0.2
    for side in (-1, 1):
        foot = (side * apart, side * stride, 0.06)
        knee = (side * apart, 0.6 * side * stride + 0.04, 0.48 * body.size)
        _leg(
            scene, place, body, [(side * 0.09 * body.size, 0, body.hip), knee, foot], body.skin if skirt else body.legs
        )
    if skirt:
        scene.mesh(place, SKIRT, (0, 0, 0.72 * body.size), (0.6, 0.5, 0.6 * body.size), body.legs)
    return _upper_body(scene, place, rng, body)


def seated(scene: Scene, place: Place, rng: Random) -> Point:
    """Someone on a seat whose middle is at the place; returns where the face is."""
    body = _draw_body(scene, rng, seated=True)
    apart = rng.uniform(0.08, 0.18)
    for side in (-1, 1):
        reach = 0.42 * body.size
        foot = (side * apart, reach + rng.uniform(-0.15, 0.2), 0.06)
        _leg(scene, place, body, [(side * 0.09, -0.05, body.hip), (side * apart, reach, body.hip), foot], body.legs)
    return _upper_body(scene, place.at(0, -0.08), rng, body)


def _draw_body(scene: Scene, rng: Random, *, seated: bool) -> Body:
    size = rng.uniform(0.9, 1.08) if seated or rng.random() < 0.85 else rng.uniform(0.55, 0.85)  # some are children
    skin = scene.material(mat.plain(rng, mat.vary(rng, rng.choice(SKINS), 0.1), gloss=0.1))
    hair = scene.material(_rough(rng, rng.choice(HAIRS)))
    top, legs = scene.material(mat.fabric(rng)), scene.material(mat.fabric(rng))
    shoes = scene.material(mat.plain(rng, gloss=0.2))
    return Body(size, SEATED_HIP if seated else HIP * size, skin, hair, top, rng.choice([top, top, skin]), legs, shoes)


def _rough(rng: Random, color: mat.Color) -> list[float]:
    """Hair and fur."""
    color = mat.vary(rng, color, 0.15)
    dark = tuple(0.6 * c for c in color)
    return mat.row(rng, color, dark, pattern=mat.tx.NOISE, scale=(0.015, 0.015), contrast=rng.uniform(0.3, 1))


def _limb(scene: Scene, place: Place, joints: list[Point], thick: float, material: int) -> None:
    for start, end in zip(joints, joints[1:], strict=False):
        scene.bar(place, start, end, thick, material, round=True)
    for joint in joints:
        scene.mesh(place, PEBBLE, joint, (thick, thick, thick), material)


def _leg(scene: Scene, place: Place, body: Body, joints: list[Point], material: int) -> None:
    _limb(scene, place, joints, 0.13 * body.size, material)
    x, y, _ = joints[-1]
    scene.mesh(place, CUSHION, (x, y + 0.05, 0.05), (0.1, 0.27 * body.size, 0.1), body.shoes)


def _upper_body(scene: Scene, place: Place, rng: Random, body: Body) -> Point:
    low, high = body.hip - 0.06, body.above(SHOULDER) + 0.05 * body.size
    girth = rng.uniform(0.9, 1.25) * body.size
    scene.mesh(place, TRUNK, (0, 0, (low + high) / 2), (0.43 * girth, 0.27 * girth, high - low), body.top)
    scene.mesh(place, PEBBLE, (0, 0, body.hip), (0.38 * girth, 0.26 * girth, 0.2 * body.size), body.legs)
    for side in (-1, 1):
        _arm(scene, place, rng, body, side * 0.21 * girth)
    neck, head = (0, 0, body.above(NECK) - 0.04), (0, 0.02, body.above(HEAD))
    scene.bar(place, neck, head, 0.11 * body.size, body.skin, round=True)
    turned = place.at(*head, rng.gauss(0, 0.35))
    _head(scene, turned, rng, body)
    return turned.at(0, 0.1 * body.size).point


def _arm(scene: Scene, place: Place, rng: Random, body: Body, x: float) -> None:
    """Hanging, bent forward, on the hip or raised."""
    outward = 1 if x > 0 else -1
    elbow, hand = rng.choice(
        [
            ((0.06, -0.03, -0.28), (0.04, 0.05, -0.53)),
            ((0.03, 0.02, -0.28), (-0.06, 0.24, -0.22)),
            ((0.2, -0.08, -0.24), (0.0, 0.06, -0.38)),
            ((0.16, 0.05, 0.06), (0.2, 0.12, 0.32)),
        ]
    )
    shoulder = (x, 0, body.above(SHOULDER))
    points = [
        tuple(s + body.size * o for s, o in zip(shoulder, (outward * dx, dy, dz), strict=True))
        for dx, dy, dz in (elbow, hand)
    ]
    _limb(scene, place, [shoulder, points[0]], 0.1 * body.size, body.top)
    _limb(scene, place, points, 0.085 * body.size, body.sleeves)
    scene.mesh(place, PEBBLE, points[1], (0.09 * body.size, 0.1 * body.size, 0.11 * body.size), body.skin)
    if rng.random() < 0.2:  # a telephone, a book, a bag
        things = [(0.07, 0.01, 0.14), (0.15, 0.03, 0.21), (0.3, 0.1, 0.24)]
        scene.box(place, points[1], rng.choice(things), scene.material(rng.choice([mat.poster, mat.plain])(rng)))


def _head(scene: Scene, place: Place, rng: Random, body: Body) -> None:
    """At the middle of the head: skull, face and hair, at times a hat."""
    s = body.size**0.5  # heads of children are large
    dark, lips = scene.material(mat.plain(rng, (0.08, 0.06, 0.05))), scene.material(mat.plain(rng, (0.6, 0.28, 0.26)))
    scene.mesh(place, BALL, (0, 0, 0), (0.155 * s, 0.19 * s, 0.23 * s), body.skin)
    scene.mesh(place, PEBBLE, (0, 0.095 * s, -0.015 * s), (0.03 * s, 0.05 * s, 0.05 * s), body.skin)
    scene.mesh(place, PEBBLE, (0, 0.082 * s, -0.06 * s), (0.05 * s, 0.02 * s, 0.014 * s), lips)
    for side in (-1, 1):
        scene.mesh(place, PEBBLE, (side * 0.032 * s, 0.083 * s, 0.022 * s), (0.026 * s, 0.016 * s, 0.012 * s), dark)
        scene.box(place, (side * 0.03 * s, 0.077 * s, 0.047 * s), (0.03 * s, 0.012 * s, 0.006 * s), body.hair)
        scene.mesh(place, PEBBLE, (side * 0.08 * s, 0, 0), (0.02 * s, 0.04 * s, 0.06 * s), body.skin)
    cut = rng.choice(["bald", "short", "short", "long", "long", "hat"])
    if cut == "long":
        scene.mesh(place, CUSHION, (0, -0.05 * s, -0.09 * s), (0.2 * s, 0.12 * s, 0.32 * s), body.hair)
    if cut == "hat":
        cover = scene.material(mat.fabric(rng))
        scene.mesh(place, CUSHION, (0, 0, 0.1 * s), (0.2 * s, 0.22 * s, 0.12 * s), cover)
        scene.mesh(place, CUSHION, (0, 0.07 * s, 0.055 * s), (0.2 * s, 0.2 * s, 0.02 * s), cover)
    elif cut != "bald":
        scene.mesh(place, BALL, (0, -0.022 * s, 0.034 * s), (0.18 * s, 0.19 * s, 0.205 * s), body.hair)


def pet(scene: Scene, place: Place, rng: Random) -> None:
    """A cat or a dog."""
    size = rng.uniform(0.25, 0.65)  # height of the back in metres
    fur, dark = scene.material(_rough(rng, rng.choice(FURS))), scene.material(mat.plain(rng, (0.05, 0.04, 0.04)))
    length, wide = size * rng.uniform(1.2, 1.7), size * rng.uniform(0.4, 0.55)
    scene.mesh(place, BALL, (0, 0, size - wide / 2), (wide, length, wide * 1.1), fur)
    for side in (-1, 1):
        for end in (-0.36, 0.36):
            x, y = side * wide * 0.25, end * length
            _limb(scene, place, [(x, y, 0.03), (x, y, size - wide / 2)], 0.25 * wide, fur)
    head = place.at(0, 0.58 * length, size + 0.15 * wide, rng.gauss(0, 0.4))
    scene.bar(
        place, (0, 0.35 * length, size - wide / 2), (0, 0.58 * length, size + 0.15 * wide), 0.4 * wide, fur, round=True
    )
    scene.mesh(head, BALL, (0, 0, 0), (0.62 * wide, 0.75 * wide, 0.6 * wide), fur)
    scene.mesh(head, BALL, (0, 0.4 * wide, -0.1 * wide), (0.3 * wide, 0.45 * wide, 0.28 * wide), fur)
    scene.mesh(head, PEBBLE, (0, 0.62 * wide, -0.05 * wide), (0.1 * wide, 0.08 * wide, 0.08 * wide), dark)
    for side in (-1, 1):
        scene.mesh(head, PEBBLE, (side * 0.16 * wide, 0.31 * wide, 0.1 * wide), (0.08 * wide,) * 3, dark)
        scene.slab(
            head, (side * 0.2 * wide, -0.05 * wide, 0.34 * wide), (0.2 * wide, 0.06 * wide, 0.3 * wide), fur, 0.2
        )
    tip = (rng.gauss(0, 0.2) * size, -0.85 * length, size * rng.uniform(0.6, 1.4))
    _limb(scene, place, [(0, -0.48 * length, size - 0.4 * wide), tip], 0.14 * wide, fur)
