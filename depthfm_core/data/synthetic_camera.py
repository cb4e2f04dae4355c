"""Where pictures are taken from: the camera, and the views people take of a room."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from .synthetic_shell import Room


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in the world (z up): yaw 0 looks along +y, positive pitch looks up."""

    eye: tuple[float, float, float]
    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    fov_deg: float

    def rays(self, height: int, width: int) -> np.ndarray:
        """[H * W, 3] rays through the pixel centres, one metre along the optical axis.

        So the distance parameter at which such a ray hits is the planar depth. `fov_deg` is horizontal.
        """
        yaw, pitch, roll = (math.radians(a) for a in (self.yaw_deg, self.pitch_deg, self.roll_deg))
        forward = np.array([math.sin(yaw) * math.cos(pitch), math.cos(yaw) * math.cos(pitch), math.sin(pitch)])
        right = np.array([math.cos(yaw), -math.sin(yaw), 0.0])
        up = np.cross(right, forward)
        right, up = right * math.cos(roll) + up * math.sin(roll), up * math.cos(roll) - right * math.sin(roll)
        size = self.pixel_angle(width)
        y, x = np.mgrid[0:height, 0:width] + 0.5
        offset = ((x - width / 2) * size)[..., None] * right - ((y - height / 2) * size)[..., None] * up
        return (forward + offset).reshape(-1, 3).astype(np.float32)

    def pixel_angle(self, width: int) -> float:
        """Size of a pixel at one metre."""
        return 2 * math.tan(math.radians(self.fov_deg) / 2) / width


def _looking_at(rng: Random, eye: tuple[float, float, float], target: tuple[float, float, float]) -> Camera:
    """A hand-held camera roughly at a target: pitch in [-50, 20], a few degrees of roll."""
    dx, dy, dz = (t - e for t, e in zip(target, eye, strict=True))
    pitch = math.degrees(math.atan2(dz, math.hypot(dx, dy))) + rng.gauss(0, 4)
    yaw = math.degrees(math.atan2(dx, dy)) + rng.gauss(0, 7)
    return Camera(eye, yaw, min(20.0, max(-50.0, pitch)), max(-6.0, min(6.0, rng.gauss(0, 2))), rng.uniform(45, 85))


def _free_spot(room: Room, rng: Random, height: float) -> tuple[float, float, float]:
    """A point in the room at a height where nothing stands (or, if it is crammed, any point)."""
    margin = 0.2
    for _ in range(30):
        x, y = rng.uniform(0.25, room.width - 0.25), rng.uniform(0.25, room.length - 0.25)
        if room.is_free(x - margin, y - margin, x + margin, y + margin, height - 0.3):
            break
    return x, y, height


def _table_top(room: Room, rng: Random) -> Camera:
    """Standing or sitting at a table, looking across its top."""
    place, width, depth, height = rng.choice(room.tables)
    angle, margin = rng.uniform(0, 2 * math.pi), rng.uniform(-0.25, 0.7)
    reach = 1 / max(abs(math.cos(angle)) / (width / 2), abs(math.sin(angle)) / (depth / 2)) + margin
    spot = place.at(math.cos(angle) * reach, math.sin(angle) * reach)
    x, y = min(room.width - 0.15, max(0.15, spot.x)), min(room.length - 0.15, max(0.15, spot.y))
    eye = (x, y, height + rng.uniform(0.35, 0.95))
    goal = place.at(rng.uniform(-0.4, 0.4) * width, rng.uniform(-0.4, 0.4) * depth, height)
    beyond = rng.uniform(1.0, 2.0)
    return _looking_at(
        rng, eye, (x + (goal.x - x) * beyond, y + (goal.y - y) * beyond, height + rng.uniform(-0.3, 0.3))
    )


def _at_subject(room: Room, rng: Random) -> Camera:
    """One piece of furniture from near by."""
    eye = _free_spot(room, rng, rng.uniform(0.8, 1.75))
    near = sorted(room.subjects, key=lambda s: abs(math.hypot(s[0] - eye[0], s[1] - eye[1]) - 2.0))
    return _looking_at(rng, eye, rng.choice(near[:3]))


def _overview(room: Room, rng: Random) -> Camera:
    """The room from near its edge towards the far side."""
    middle = (room.width / 2, room.length / 2)
    spots = [_free_spot(room, rng, rng.uniform(1.1, 1.8)) for _ in range(4)]
    eye = max(spots, key=lambda spot: math.dist(spot[:2], middle))
    share = rng.uniform(0.2, 1.0)  # from the middle of the room to the point across from the eye
    x, y = (m + share * (m - e) for m, e in zip(middle, eye[:2], strict=True))
    return _looking_at(rng, eye, (x, y, rng.uniform(0.0, 1.3)))


def _floor(room: Room, rng: Random) -> Camera:
    """Looking down at the floor and what stands on it."""
    eye = _free_spot(room, rng, rng.uniform(0.9, 1.8))
    reach, angle = rng.uniform(0.8, 2.2), rng.uniform(0, 2 * math.pi)
    return _looking_at(rng, eye, (eye[0] + reach * math.cos(angle), eye[1] + reach * math.sin(angle), 0.0))


def _level(room: Room, rng: Random) -> Camera:
    """Level, down the length of the room."""
    eye = (rng.uniform(0.3, 0.7) * room.width, rng.uniform(0.15, 1.2), rng.uniform(0.6, 1.7))
    return _looking_at(rng, eye, (rng.uniform(0.2, 0.8) * room.width, room.length, eye[2] - rng.uniform(-0.3, 2.0)))


def _anywhere(room: Room, rng: Random) -> Camera:
    """Any heading, sometimes up into a corner of the ceiling."""
    eye, angle = _free_spot(room, rng, rng.uniform(0.5, 2.0)), rng.uniform(0, 2 * math.pi)
    return _looking_at(
        rng, eye, (eye[0] + 2 * math.cos(angle), eye[1] + 2 * math.sin(angle), eye[2] + rng.gauss(-0.4, 0.5))
    )


def _portrait(room: Room, rng: Random) -> Camera:
    """Someone's face or trunk from near by, mostly from the front, with any lens from wide to tele."""
    x, y, z, heading = rng.choice(room.faces)
    reach, angle = rng.uniform(0.6, 2.6), heading + math.pi / 2 + rng.gauss(0, 0.7)
    eye = (
        min(room.width - 0.15, max(0.15, x + reach * math.cos(angle))),
        min(room.length - 0.15, max(0.15, y + reach * math.sin(angle))),
        min(room.height - 0.3, max(0.4, z + rng.gauss(0, 0.2))),
    )
    aimed = _looking_at(rng, eye, (x, y, z - rng.uniform(-0.05, 0.5)))
    return replace(aimed, fov_deg=rng.uniform(30, 75))


VIEWS: dict[str, tuple[Callable[[Room, Random], Camera], float]] = {
    "table top": (_table_top, 36),
    "subject": (_at_subject, 20),
    "overview": (_overview, 26),
    "floor": (_floor, 10),
    "level": (_level, 12),
    "anywhere": (_anywhere, 8),
    "portrait": (_portrait, 50),
}


def room_camera(room: Room, rng: Random) -> Camera:
    """A view of a room; corridors are mostly seen along their length."""
    weights = {name: weight for name, (_, weight) in VIEWS.items()}
    if not room.tables:
        weights["table top"] = 0
    if not room.subjects:
        weights["subject"] = 0
    if not room.faces:
        weights["portrait"] = 0
    if room.length > 3 * room.width:
        weights["level"] = 150
    return VIEWS[rng.choices(list(weights), list(weights.values()))[0]][0](room, rng)
