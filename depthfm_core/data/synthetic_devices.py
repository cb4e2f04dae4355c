"""Things with a screen, keys or a bulb that stand on desks."""

import math
from random import Random

from . import synthetic_materials as mat
from .synthetic_scene import CUSHION, DRUM, Place, Scene, lathe


def panel(scene: Scene, place: Place, foot, head, width: float, face: int, back: int) -> None:
    """A leaning slab from `foot` to `head` facing +y: a face material in front of a frame."""
    middle = tuple((a + b) / 2 for a, b in zip(foot, head, strict=True))
    length = math.dist(foot, head)
    tilt = math.atan2(foot[1] - head[1], head[2] - foot[2])
    scene.slab(place, middle, (width, 0.012, length), back, tilt)
    front = (middle[0], middle[1] + 0.007 * math.cos(tilt), middle[2] + 0.007 * math.sin(tilt))
    scene.slab(place, front, (width - 0.03, 0.004, length - 0.03), face, tilt)


def _screen(rng: Random) -> list[float]:
    """A dark, or a lit and colorful display."""
    if rng.random() < 0.45:
        return mat.plain(rng, (0.04, 0.04, 0.045), gloss=1.0)
    shown = mat.poster(rng)
    shown[mat.tx.EMISSION] = rng.uniform(0.3, 1.5)
    return shown


def laptop(scene: Scene, place: Place, rng: Random) -> None:
    body, lean = (
        scene.material(mat.plain(rng, rng.choice([(0.15, 0.15, 0.16), (0.65, 0.65, 0.67)]))),
        rng.uniform(0.1, 0.5),
    )
    scene.box(place, (0, 0, 0.009), (0.33, 0.23, 0.018), body)
    scene.box(
        place,
        (0, 0.03, 0.0185),
        (0.28, 0.11, 0.002),
        scene.material(mat.row(rng, (0.06, 0.06, 0.07), (0.3, 0.3, 0.3), pattern=mat.tx.PLAID, scale=(0.018, 0.018))),
    )
    top = place.at(0, -0.115, 0.018)
    foot, head = (0, 0, 0.01), (0, -0.22 * math.sin(lean), 0.22 * math.cos(lean))
    panel(scene, top, foot, head, 0.33, scene.material(_screen(rng)), body)


def monitor(scene: Scene, place: Place, rng: Random) -> None:
    width = rng.uniform(0.4, 0.75)
    case = scene.material(mat.plain(rng, rng.choice([(0.06, 0.06, 0.06), (0.75, 0.75, 0.75)]), gloss=0.3))
    scene.box(place, (0, -0.03, 0.008), (0.22, 0.18, 0.016), case)
    scene.bar(place, (0, -0.05, 0), (0, -0.05, 0.25), 0.04, case)
    panel(scene, place, (0, 0, 0.12), (0, -0.02, 0.12 + width * 0.58), width, scene.material(_screen(rng)), case)


def keyboard(scene: Scene, place: Place, rng: Random) -> None:
    shade = rng.choice([(0.07, 0.07, 0.07), (0.8, 0.8, 0.78)])
    keys = mat.row(rng, shade, tuple(c * 0.6 for c in shade), pattern=mat.tx.TILES, scale=(0.019, 0.019), line=0.002)
    scene.box(place, (0, 0, 0.011), (0.42, 0.14, 0.022), scene.material(keys))
    mouse = scene.material(mat.plain(rng, shade, gloss=0.4))
    scene.mesh(place, CUSHION, (0.3, 0.0, 0.015), (0.06, 0.1, 0.035), mouse)


def desk_lamp(scene: Scene, place: Place, rng: Random) -> None:
    """A lamp with a lit shade."""
    h = rng.uniform(0.3, 0.55)
    stand = scene.material(mat.metal(rng) if rng.random() < 0.5 else mat.plain(rng))
    scene.mesh(place, DRUM, (0, 0, 0.012), (0.15, 0.15, 0.024), stand)
    scene.bar(place, (0, 0, 0), (0, 0, h), 0.022, stand, round=True)
    shade = scene.material(mat.glow(rng, (0.95, 0.82, 0.6), rng.choice([0.1, 0.8, 2.0])))
    scene.mesh(
        place,
        lathe([(0.5, -0.5), (0.34, 0.5), (0.33, 0.5), (0.49, -0.5)], 18),
        (0, 0, h),
        (0.28, 0.28, 0.2),
        shade,
    )
