"""Ray casting with Embree and the passes that turn hits into radiance."""

from dataclasses import dataclass
from random import Random

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from . import synthetic_shading as shading
from .synthetic_camera import Camera
from .synthetic_scene import Geometry


@dataclass(frozen=True)
class Sky:
    """Linear colors of an outdoor sky, cloud cover in [0, 1], direction to the sun and reach of haze (m)."""

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    clouds: float
    sun: tuple[float, float, float]
    haze_m: float


@dataclass(frozen=True)
class World:
    """All there is to see: triangles, lights [L, LIGHT_COLUMNS], ambient light and the sky (None indoors)."""

    geometry: Geometry
    lights: np.ndarray
    above: np.ndarray
    below: np.ndarray
    occlusion_m: float
    sky: Sky | None


@dataclass(frozen=True)
class Hits:
    """Where N rays met the scene: prim -1 where they met nothing."""

    points: np.ndarray
    prim: np.ndarray
    u: np.ndarray
    v: np.ndarray
    distance: np.ndarray


class Tracer:
    """The acceleration structure of one world."""

    def __init__(self, geometry: Geometry) -> None:
        self._scene = EmbreeScene()
        TriangleMesh(self._scene, geometry.vertices, geometry.faces)

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        found = self._scene.run(origins, directions, output=1)
        distance = np.where(found["primID"] >= 0, found["tfar"], 0).astype(np.float32)
        return Hits(origins + directions * distance[:, None], found["primID"], found["u"], found["v"], distance)

    def blocked(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """[N] int, -1 where nothing stands between an origin and 0.998 of its direction vector."""
        return self._scene.run(origins, directions, np.full(len(origins), 0.998, np.float32), query="OCCLUDED")


def from_eye(camera: Camera, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    directions = camera.rays(height, width)
    return np.tile(np.array(camera.eye, np.float32), (len(directions), 1)), directions


def radiance(
    world: World, tracer: Tracer, camera: Camera, height: int, width: int, seed: int
) -> tuple[np.ndarray, Hits]:
    """[H, W, 3] linear radiance and the hits behind it."""
    origins, directions = from_eye(camera, height, width)
    hits = tracer.cast(origins, directions)
    surface = _shade_inputs(world, hits, directions, camera.pixel_angle(width))
    albedo, normal, facing, finish = surface
    view = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    diffuse, glossy = _incoming_light(world, tracer, hits, view, normal, facing, finish, seed)
    reach = np.where(hits.prim >= 0, hits.distance, 1e9).astype(np.float32)
    scratch = np.empty_like(diffuse)
    for step in (1, 2, 4):
        shading.smooth_light(diffuse, scratch, normal, reach, height, width, step)
        diffuse, scratch = scratch, diffuse
    color = albedo * (diffuse + finish[:, 3:4]) + glossy
    _add_mirror(world, tracer, hits, view, surface, diffuse, color, reach, (height, width), seed)
    if world.sky is not None:
        _add_sky(world.sky, hits, view, color)
    return color.reshape(height, width, 3), hits


def _arrays(geometry: Geometry) -> tuple[np.ndarray, ...]:
    g = geometry
    return (
        g.faces,
        g.owner,
        g.face_normal,
        g.vertex_normal,
        g.rotation,
        g.center,
        g.extent,
        g.smooth,
        g.material,
        g.materials,
    )


def _shade_inputs(world: World, hits: Hits, directions: np.ndarray, pixel_angle: float) -> tuple[np.ndarray, ...]:
    """Albedo, shading normal, facing normal and finish of the hits."""
    count = len(directions)
    albedo, normal, facing = (np.zeros((count, 3), np.float32) for _ in range(3))
    finish = np.zeros((count, 4), np.float32)
    shading.surface(
        hits.points,
        directions,
        hits.prim,
        hits.u,
        hits.v,
        hits.distance,
        pixel_angle,
        _arrays(world.geometry),
        albedo,
        normal,
        facing,
        finish,
    )
    return albedo, normal, facing, finish


def _incoming_light(world, tracer, hits, view, normal, facing, finish, seed) -> tuple[np.ndarray, np.ndarray]:
    """Irradiance (over pi) and highlights [N, 3] from the ambience and the lights, with shadows."""
    count = len(view)
    origins, directions = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
    index, open_sky = np.empty(count, np.int64), np.zeros(count, np.float32)
    for k in range(2):
        n = shading.sky_rays(
            hits.points, facing, hits.prim, seed * 8 + k, world.occlusion_m, origins, directions, index
        )
        open_sky[index[:n]] += 0.5 * (tracer.blocked(origins[:n], directions[:n]) < 0)
    diffuse, glossy = np.zeros((count, 3), np.float32), np.zeros((count, 3), np.float32)
    shading.add_ambient(open_sky, normal, hits.prim, world.above, world.below, diffuse)
    for k, light in enumerate(world.lights):
        n = shading.light_rays(hits.points, facing, hits.prim, light, seed * 8 + 3 + k, origins, directions, index)
        occluder = tracer.blocked(origins[:n], directions[:n])
        shading.add_light(n, directions, index, occluder, light, view, normal, finish, diffuse, glossy)
    return diffuse, glossy


def _add_mirror(world, tracer, hits, view, surface, diffuse, color, reach, size, seed) -> None:
    """Blends in a mirror ray where a surface is glossy; what it hits is lit by the picture's average."""
    _, normal, _, finish = surface
    count = len(view)
    origins, directions = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
    index, strength = np.empty(count, np.int64), np.empty(count, np.float32)
    roughness = Random(seed).choice([0.0, 0.03, 0.08])
    n = shading.mirror_rays(
        hits.points, view, normal, hits.prim, finish, roughness, seed, origins, directions, index, strength
    )
    if n == 0:
        return
    index, strength = index[:n], strength[:n, None]
    seen = tracer.cast(origins[:n], directions[:n])
    albedo, _, _, shine = _shade_inputs(world, seen, directions[:n], 0.02)
    reflected = np.zeros_like(color)
    reflected[index] = albedo * (diffuse[hits.prim >= 0].mean(0) + shine[:, 3:4])
    if world.sky is not None:
        reflected[index[seen.prim < 0]] = world.sky.horizon
    scratch = np.empty_like(reflected)
    for step in (1, 2) if roughness > 0 else ():
        shading.smooth_light(reflected, scratch, normal, reach, *size, step)
        reflected, scratch = scratch, reflected
    color[index] = color[index] * (1 - strength) + reflected[index] * strength


def _add_sky(sky: Sky, hits: Hits, view: np.ndarray, color: np.ndarray) -> None:
    """Fades the scene into the haze and paints the sky where nothing was hit."""
    haze = 1 - np.exp(-hits.distance / sky.haze_m)[:, None]
    color *= 1 - haze
    color += haze * np.array(sky.horizon, np.float32)
    missed = np.flatnonzero(hits.prim < 0)
    painted = np.empty((len(missed), 3), np.float32)
    seed = int(sky.haze_m * 1000)
    vectors = [np.array(v, np.float32) for v in (sky.zenith, sky.horizon, sky.sun)]
    shading.sky_color(view[missed], vectors[0], vectors[1], sky.clouds, vectors[2], seed, painted)
    color[missed] = painted
