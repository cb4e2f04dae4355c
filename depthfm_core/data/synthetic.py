"""Synthetic RGB-D frames from a seed: furnished rooms and outdoor scenes with people in them, cast with Embree.

The road of a frame: `build_room` and `inhabit`, or `build_outdoors` (a random scene) -> `Tracer` -> a camera
(drawn again until its view is sensible) -> `radiance` -> `develop` -> `DepthSample`. Every draw comes from the
seed and pixel noise from a hash, so a frame does not depend on which process made it.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from ..workers import start_worker
from .folder import DEPTH_SUFFIX, IMAGE_SUFFIX, frame_name, write_frame
from .sample import DepthSample

try:
    import embreex  # noqa: F401
    import numba  # noqa: F401
except ImportError as error:
    raise ImportError(
        'Synthetic scenes need embreex and numba: pip install -e ".[train]" in the project\'s folder'
    ) from error

from .synthetic_camera import Camera, room_camera
from .synthetic_outdoors import build_outdoors, outdoor_camera
from .synthetic_photo import develop
from .synthetic_render import Hits, Tracer, World, from_eye, radiance
from .synthetic_rooms import build_room, inhabit

DEFAULT_SIZE = (192, 256)
OUTDOOR_SHARE = 0.25
_VIEWS_TRIED = 16


def render_scene(seed: int, size: tuple[int, int] = DEFAULT_SIZE, *, antialias: bool = False) -> DepthSample:
    """The frame of a seed: picture, planar depth at the pixel centres, and where there is any (no sky).

    Args:
        seed: Non-negative; the same seed and size give the same bits on one machine.
        size: Height and width in pixels, at least 16 each.
        antialias: Averages 2x2 rays a pixel in the picture (about three times slower); depth is the same.

    Raises:
        ValueError: The seed is negative or the size too small.
        ImportError: embreex or numba is missing.
    """
    image, depth_m = _render_arrays(seed, size, antialias)
    depth = torch.from_numpy(depth_m)[None]
    return DepthSample(torch.from_numpy(image).permute(2, 0, 1).float() / 255, depth, depth > 0)


def _render_arrays(seed: int, size: tuple[int, int], antialias: bool) -> tuple[np.ndarray, np.ndarray]:
    """uint8 picture [H, W, 3] and float32 depth [H, W] (0 = sky)."""
    height, width = size
    if seed < 0 or min(size) < 16:
        raise ValueError(f"A frame needs a seed >= 0 and a size of at least 16x16; got seed {seed}, size {size}.")
    rng = Random(f"depthfm-{seed}")
    outdoors = rng.random() < OUTDOOR_SHARE
    world, draw_camera = _outdoor_world(rng) if outdoors else _indoor_world(rng, Random(f"depthfm-people-{seed}"))
    tracer = Tracer(world.geometry)
    camera = _sensible_view(tracer, draw_camera, world.geometry.face_normal, indoors=not outdoors)
    fine = 2 if antialias else 1
    light, hits = radiance(world, tracer, camera, height * fine, width * fine, seed)
    if antialias:
        light = light.reshape(height, 2, width, 2, 3).mean((1, 3))
        hits = tracer.cast(*from_eye(camera, height, width))
    return develop(light, rng, seed), hits.distance.reshape(height, width)


def _indoor_world(rng: Random, of_people: Random):
    room = build_room(rng)
    inhabit(room, of_people)  # with draws of its own: a room that nobody is in stays as it was drawn
    geometry = room.scene.finish()
    lights = np.array(room.lights, np.float32)
    tint = geometry.materials[:, 3:6].mean(0)
    level = rng.uniform(0.12, 0.4)
    color = lights[:, 9:12].sum(0)
    color = color / color.max()
    above, below = (
        (level * color * (0.6 + 0.4 * tint / tint.max())).astype(np.float32),
        (0.6 * level * color * tint / tint.max()).astype(np.float32),
    )
    return World(geometry, lights, above, below, 0.9, None), partial(room_camera, room, rng)


def _outdoor_world(rng: Random):
    geometry, sky, lights = build_outdoors(rng)
    above = (0.25 * np.array(sky.zenith) + 0.45 * np.array(sky.horizon)).astype(np.float32)
    return World(geometry, lights, above, above * np.float32(0.35), 4.0, sky), partial(outdoor_camera, rng)


def _sensible_view(tracer: Tracer, draw_camera, face_normal: np.ndarray, *, indoors: bool) -> Camera:
    """The first drawn camera that is not inside a thing, nose to a wall or before one flat surface only."""
    for _ in range(_VIEWS_TRIED):
        camera = draw_camera()
        origins, directions = from_eye(camera, 24, 32)
        if _is_sensible(tracer.cast(origins, directions), directions, face_normal, indoors):
            break
    return camera


def _is_sensible(hits: Hits, directions: np.ndarray, face_normal: np.ndarray, indoors: bool) -> bool:
    seen = hits.prim >= 0
    if seen.mean() < (0.999 if indoors else 0.35):
        return False
    depth, normal = hits.distance[seen], face_normal[hits.prim[seen]]
    from_behind = ((normal * directions[seen]).sum(1) > 0).mean()
    offset = (normal * hits.points[seen]).sum(1)
    planes, counts = np.unique(np.column_stack([normal, offset]).round(1), axis=0, return_counts=True)
    is_level = abs(planes[counts.argmax(), 2]) > 0.5
    largest_share = 0.8 if is_level else 0.55  # a floor may fill the view, a wall may not
    far_enough = np.quantile(depth, 0.03) > 0.25 and (depth < 0.7).mean() < 0.5
    varied = np.log(depth).std() > 0.12 and len(planes) >= (10 if indoors else 3)
    return from_behind < 0.08 and far_enough and varied and counts.max() < largest_share * len(depth)


def frame_paths(out_dir: Path, seed: int) -> tuple[Path, Path]:
    """Where the picture and the depth of a seed are stored."""
    return tuple(out_dir / (frame_name(seed) + suffix) for suffix in (IMAGE_SUFFIX, DEPTH_SUFFIX))


def write_frames(
    out_dir: Path,
    seeds: Iterable[int],
    size: tuple[int, int] = DEFAULT_SIZE,
    *,
    antialias: bool = False,
    workers: int = 1,
) -> Iterator[int]:
    """Renders the seeds that are not yet in a folder, and yields each seed once its two files are there.

    The files are named by the eight-digit seed, as `folder.write_frame` writes them. The frames do not depend on
    `workers`.

    Raises:
        ValueError: a frame of another size is there already; otherwise as `render_scene`.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    write = partial(_write_frame, out_dir, size, antialias)
    seeds = list(seeds)
    for seed in seeds:
        _refuse_another_size(out_dir, seed, size)
    if workers == 1 or all(_is_there(out_dir, seed) for seed in seeds):  # processes take seconds to start
        yield from map(write, seeds)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), start_worker) as pool:
        yield from pool.map(write, seeds, chunksize=4)


def _write_frame(out_dir: Path, size: tuple[int, int], antialias: bool, seed: int) -> int:
    if not _is_there(out_dir, seed):
        write_frame(out_dir / frame_name(seed), render_scene(seed, size, antialias=antialias))
    return seed


def _is_there(out_dir: Path, seed: int) -> bool:
    return all(path.exists() for path in frame_paths(out_dir, seed))


def _refuse_another_size(out_dir: Path, seed: int, size: tuple[int, int]) -> None:
    if not _is_there(out_dir, seed):
        return
    path = frame_paths(out_dir, seed)[1]
    with Image.open(path) as picture:
        if picture.size != size[::-1]:
            raise ValueError(
                f"{path} has {picture.size[0]} x {picture.size[1]} pixels, not {size[1]} x {size[0]}; take that size "
                "or another folder."
            )
