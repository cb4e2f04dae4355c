"""Small scenes of the synthetic generator for its tests, with their depth and their picture."""

from random import Random

import numpy as np

from depthfm_core.data import synthetic_materials as mat
from depthfm_core.data.synthetic_render import Tracer, World, from_eye, radiance
from depthfm_core.data.synthetic_scene import Place, Scene

SMALL = (24, 40)
ORIGIN = Place(0, 0)
BLACK = np.zeros(3, np.float32)


def floor_scene(color=(0.8, 0.8, 0.8)):
    scene = Scene()
    scene.box(ORIGIN, (0, 0, -0.5), (60, 60, 1), scene.material(mat.row(Random(0), color, color)))
    return scene


def depth_of(scene, camera, size=SMALL):
    return Tracer(scene.finish()).cast(*from_eye(camera, *size)).distance.reshape(size)


def picture_of(scene, camera, lights=(), ambient=BLACK, size=SMALL):
    lights = np.array(lights, np.float32).reshape(-1, 13)
    world = World(scene.finish(), lights, ambient, ambient, 1.0, None)
    return radiance(world, Tracer(world.geometry), camera, *size, seed=1)[0]


def lamp(height):
    return [0, 0, height, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0]
