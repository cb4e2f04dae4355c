"""Streets, yards and fields: the ground, what stands on it, the weather and the view."""

import math
from random import Random

import numpy as np

from . import synthetic_materials as mat
from . import synthetic_people as people
from . import synthetic_street as street
from .synthetic_camera import Camera
from .synthetic_pieces import draw_style
from .synthetic_render import Sky
from .synthetic_scene import Geometry, Place, Scene, heightfield


def build_outdoors(rng: Random) -> tuple[Geometry, Sky, np.ndarray]:
    """Geometry, sky and lights [L, LIGHT_COLUMNS] of an outdoor scene, mostly ahead (+y) of the origin."""
    scene = Scene()
    style = draw_style(scene, rng)
    has_street = rng.random() < 0.6
    _ground(scene, rng, 0.0 if has_street else rng.uniform(0.2, 3.0))
    if has_street:
        _street(scene, rng)
    margin = 4.5 if has_street else 2.0
    for _ in range(rng.randint(2, 9) if has_street else rng.randint(0, 3)):
        street.building(scene, rng, margin + 3)
    for _ in range(rng.randint(1, 14)):
        side = rng.choice([-1, 1])
        street.tree(scene, Place(side * (margin + abs(rng.gauss(0, 7))), rng.uniform(2, 55)), rng)
    for _ in range(rng.choice([0, 1, 2])):
        street.fence(scene, rng, rng.choice([-1, 1]) * (margin + rng.uniform(-0.5, 2)))
    for _ in range(rng.choice([0, 1, 3, 6]) if has_street else rng.choice([0, 0, 1])):
        at = Place(
            rng.choice([-1, 1]) * rng.uniform(1.6, 3.2),
            rng.uniform(4, 40),
            0,
            rng.choice([0, math.pi]) + rng.gauss(0, 0.05),
        )
        street.car(scene, at, rng, style)
    for _ in range(rng.choice([0, 1, 3, 6])):
        at = Place(rng.gauss(0, 4), 2.5 + 22.5 * rng.random() ** 2, 0, rng.uniform(0, 6.28))
        rng.choice([people.standing, people.standing, people.standing, people.pet])(scene, at, rng)
    for _ in range(rng.choice([0, 2, 6])):
        street.street_thing(scene, Place(rng.gauss(0, 5), rng.uniform(2, 20), 0, rng.uniform(0, 6.28)), rng, style)
    sky, lights = _weather(rng)
    return scene.finish(), sky, lights


def outdoor_camera(rng: Random) -> Camera:
    """Hand height near the origin, mostly level and looking ahead."""
    eye = (rng.gauss(0, 1.5), rng.uniform(-2, 2), rng.uniform(0.9, 2.2))
    pitch = min(20.0, max(-35.0, rng.gauss(-5, 8)))
    return Camera(eye, rng.gauss(0, 22), pitch, max(-6.0, min(6.0, rng.gauss(0, 2))), rng.uniform(45, 85))


def _ground(scene: Scene, rng: Random, hills: float) -> None:
    """Grass, soil, gravel or paving; hills rise away from the camera."""
    y, x = np.meshgrid(np.linspace(-90, 90, 60), np.linspace(-90, 90, 60), indexing="ij")
    waves = sum(
        np.sin(x / (19 / k) + rng.uniform(0, 6)) * np.cos(y / (23 / k) + rng.uniform(0, 6)) / k for k in (1, 2, 3)
    )
    height = hills * waves * np.clip((np.hypot(x, y + 60) - 30) / 40, 0, 1) ** 2 * 1.5
    tone = rng.choice([(0.33, 0.4, 0.18), (0.28, 0.36, 0.16), (0.5, 0.44, 0.33), (0.48, 0.47, 0.45)])
    grass = mat.row(
        rng,
        mat.vary(rng, tone, 0.12),
        mat.vary(rng, tuple(c * 0.7 for c in tone), 0.1),
        pattern=mat.tx.NOISE,
        scale=(0.35, 0.35),
        contrast=rng.uniform(0.5, 1.3),
    )
    scene.mesh(
        Place(0, 60, -0.02),
        heightfield(height, 180, 180),
        (0, 0, 0),
        (1, 1, 1),
        scene.material(rng.choice([grass, grass, grass, mat.paving(rng, 0.6)])),
    )


def _street(scene: Scene, rng: Random) -> None:
    """A road with markings between two pavements with kerbs."""
    width = rng.uniform(5, 8)
    asphalt = mat.row(
        rng,
        mat.vary(rng, (0.3, 0.3, 0.31), 0.06),
        pattern=mat.tx.NOISE,
        scale=(0.02, 0.02),
        contrast=0.6,
        specular=0.1,
    )
    road = Place(rng.gauss(0, 1.5), 50)
    scene.box(road, (0, 0, -0.04), (width, 130, 0.1), scene.material(asphalt))
    paint, paving = (
        scene.material(mat.plain(rng, (0.85, 0.85, 0.82), gloss=0)),
        scene.material(mat.paving(rng, rng.choice([0.3, 0.5, 1.0]))),
    )
    for k in range(rng.choice([0, 20])):
        scene.box(road, (0, -50 + 5 * k, 0.012), (0.14, 2.2, 0.01), paint)
    for side in (-1, 1):
        scene.box(road, (side * (width / 2 + 1.2), 0, 0.0), (2.4, 130, 0.24), paving)


def _weather(rng: Random) -> tuple[Sky, np.ndarray]:
    """A sky and its sun as a distant light; overcast skies have a weak, wide sun."""
    clouds = rng.choice([0.0, 0.3, 0.3, 0.6, 1.0])
    azimuth, rise = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 1.2)
    sun = (math.cos(azimuth) * math.cos(rise), math.sin(azimuth) * math.cos(rise), math.sin(rise))
    pale = rng.uniform(0.0, 0.5)
    zenith = tuple(c + pale * 0.4 for c in (0.16, 0.32, 0.72))
    horizon = tuple(c * rng.uniform(0.9, 1.0) for c in (0.78, 0.86, 0.95))
    if clouds == 1.0:
        zenith = horizon = tuple(c * 0.9 for c in (0.8, 0.83, 0.87))
    far, wide = 400.0, 5.0 + 90.0 * clouds**2
    strength = far**2 * rng.uniform(1.0, 2.4) * (1 - 0.85 * clouds**2)
    warm = (1.0, 0.82 + 0.14 * rise, 0.6 + 0.3 * rise)
    sideways = (-math.sin(azimuth) * wide, math.cos(azimuth) * wide, 0.0)
    light = [*(far * s for s in sun), *sideways, 0.0, 0.0, wide * 0.5, *(strength * c for c in warm), 0.0]
    haze = rng.choice([60.0, 300.0, 1000.0, 3000.0, 3000.0]) * rng.uniform(0.8, 1.2)
    return Sky(zenith, horizon, clouds, sun, haze), np.array([light], np.float32)
