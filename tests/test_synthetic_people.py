"""People, pets and mirrors of the synthetic scenes."""

import math
from random import Random

import numpy as np
import pytest

pytest.importorskip("embreex")
pytest.importorskip("numba")

from depthfm_core.data import synthetic_fittings as fittings
from depthfm_core.data import synthetic_materials as mat
from depthfm_core.data import synthetic_people as people
from depthfm_core.data.synthetic_camera import VIEWS, Camera, room_camera
from depthfm_core.data.synthetic_pieces import draw_style
from depthfm_core.data.synthetic_render import Tracer, from_eye
from depthfm_core.data.synthetic_rooms import build_room, inhabit
from depthfm_core.data.synthetic_scene import Place, Scene
from depthfm_core.data.synthetic_shell import Room, make_walls

from .synthetic_scenes import ORIGIN, depth_of, lamp, picture_of

SEEDS = range(12)


def built(builder, seed, place=ORIGIN):
    scene = Scene()
    face = builder(scene, place, Random(seed))
    return scene.finish().vertices, face


def rooms_with_people():
    """Rooms, and how many rectangles of their floor the furniture takes."""
    for seed in range(40):
        room = build_room(Random(seed))
        furniture = len(room.taken)
        inhabit(room, Random(seed))
        if room.faces:
            yield room, furniture


@pytest.mark.parametrize("seed", SEEDS)
def test_someone_who_stands_has_soles_on_the_floor_and_a_face_at_the_height_of_a_child_or_an_adult(seed):
    vertices, face = built(people.standing, seed)
    assert vertices[:, 2].min() == pytest.approx(0, abs=0.02)
    assert 0.8 < face[2] < vertices[:, 2].max() and 0.85 * vertices[:, 2].max() < face[2] + 0.25 < 2.2
    assert face[1] > 0  # the front is towards +y


@pytest.mark.parametrize("seed", SEEDS)
def test_someone_who_sits_is_lower_and_has_knees_in_front_of_the_seat(seed):
    vertices, face = built(people.seated, seed)
    assert 0.9 < face[2] < 1.45
    knees = vertices[(vertices[:, 2] > 0.4) & (vertices[:, 2] < 0.65)]
    assert knees[:, 1].max() > 0.35 > -knees[:, 1].min()


def test_people_turn_and_move_with_their_place():
    _, face = built(people.standing, 3)
    _, moved = built(people.standing, 3, Place(2, 1, 0, math.pi / 2))
    assert moved == pytest.approx((2 - face[1], 1 + face[0], face[2]), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pet_stands_on_the_floor_and_is_no_taller_than_a_table(seed):
    vertices, _ = built(people.pet, seed)
    assert vertices[:, 2].min() == pytest.approx(0, abs=0.05) and 0.3 < vertices[:, 2].max() < 1.2


def test_people_differ():
    assert len({len(built(people.standing, seed)[0]) for seed in SEEDS}) > 1
    assert np.std([built(people.standing, seed)[1][2] for seed in SEEDS]) > 0.02


def test_a_room_that_nobody_enters_stays_as_it_was_and_others_only_gain():
    gained = 0
    for seed in range(20):
        room, before = build_room(Random(seed)), build_room(Random(seed))
        inhabit(room, Random(seed))
        now, then = room.scene.finish(), before.scene.finish()
        assert np.array_equal(now.materials[: len(then.materials)], then.materials)
        if len(now.materials) == len(then.materials):
            assert np.array_equal(now.vertices, then.vertices) and not room.faces
        else:
            assert len(now.vertices) > len(then.vertices)
            gained += 1
    assert 0 < gained < 20


def test_people_and_pets_stand_in_the_room_and_not_in_each_other_or_the_furniture():
    for room, furniture in rooms_with_people():
        for k in range(furniture, len(room.taken)):
            x0, y0, x1, y1, _ = room.taken[k]
            assert -0.02 < x0 and -0.02 < y0 and x1 < room.width + 0.02 and y1 < room.length + 0.02
            assert all(x1 <= a or x0 >= c or y1 <= b or y0 >= d for a, b, c, d, _ in room.taken[:k])


def test_a_portrait_is_taken_in_the_room_and_shows_the_face_unless_something_stands_before_it():
    portrait, seen, taken = VIEWS["portrait"][0], 0, 0
    for k, (room, _) in enumerate(rooms_with_people()):
        camera, tracer = portrait(room, Random(k)), Tracer(room.scene.finish())
        assert 0 < camera.eye[0] < room.width and 0 < camera.eye[1] < room.length
        points = tracer.cast(*from_eye(camera, 60, 80)).points
        faces = np.array(room.faces)[:, :3]
        seen += np.linalg.norm(points[:, None] - faces, axis=2).min() < 0.15
        taken += 1
    assert taken > 10 and seen > 0.6 * taken


def test_without_people_no_portrait_is_tried():
    room = build_room(Random(0))
    assert not room.faces
    for seed in range(50):
        room_camera(room, Random(seed))  # a portrait of nobody would fail


def test_a_mirror_shows_what_is_behind_the_camera_and_its_depth_is_that_of_the_glass():
    scene = Scene()
    scene.box(Place(0, 0), (0, 0, -0.5), (60, 60, 1), scene.material(mat.row(Random(0), (0, 0, 0), (0, 0, 0))))
    room = Room(scene, draw_style(scene, Random(0)), 3.0, 4.0, 2.5, make_walls(3.0, 4.0))
    fittings.mirror(room, room.walls[2], Random(1))  # the north wall
    left, right, low, high = room.walls[2].used[-1]
    middle, height = 3.0 - (left + right) / 2, (low + high) / 2
    scene.box(Place(middle, -2), (0, 0, height), (3, 0.1, 3), scene.material(mat.glow(Random(0), (1, 1, 1), 1.0)))
    camera = Camera((middle, 1.0, height), 0, 0, 0, 30)
    assert depth_of(scene, camera, (25, 25))[12, 12] == pytest.approx(3.0, abs=0.05)
    assert picture_of(scene, camera, [lamp(9)], size=(25, 25))[12, 12].min() > 0.3
