import argparse
import importlib
import math
import sys
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("embreex")
pytest.importorskip("numba")

from depthfm_core.cli import synth
from depthfm_core.data import synthetic_materials as mat
from depthfm_core.data import synthetic_textures as tx
from depthfm_core.data.synthetic import frame_paths, render_scene, write_frames
from depthfm_core.data.synthetic_camera import Camera, room_camera
from depthfm_core.data.synthetic_render import Tracer
from depthfm_core.data.synthetic_rooms import build_room
from depthfm_core.data.synthetic_scene import BALL, CUSHION, DRUM, ROD, Place, Scene, lathe
from depthfm_core.data.synthetic_shell import Wall, add_wall

from .synthetic_scenes import ORIGIN, SMALL, depth_of, floor_scene, lamp, picture_of


def first_outdoor_seed():
    return next(seed for seed in range(40) if not render_scene(seed, SMALL).valid.all())


def test_depth_of_a_floor_is_the_planar_depth_of_a_pinhole_camera_at_pixel_centres():
    height, width = SMALL
    pitch, focal_px = math.radians(-40), width / 2 / math.tan(math.radians(60) / 2)
    rows = (np.arange(height) + 0.5 - height / 2) / focal_px
    expected = 1.5 / (rows * math.cos(pitch) - math.sin(pitch))
    depth = depth_of(floor_scene(), Camera((0, 0, 1.5), 25, -40, 0, 60))
    assert depth == pytest.approx(np.repeat(expected[:, None], width, 1), rel=1e-4)


def test_depth_of_a_wall_faced_squarely_is_its_distance_in_every_pixel_whatever_the_roll():
    scene = Scene()
    scene.box(ORIGIN, (0, 3.5, 0), (50, 1, 50), scene.material(mat.plain(Random(0))))
    assert depth_of(scene, Camera((0.3, 0, 0.2), 0, 0, 6, 80)) == pytest.approx(3.0, rel=1e-4)


def test_positive_yaw_turns_right_and_positive_pitch_looks_up():
    right, up = (Camera((0, 0, 0), *angles, 0, 60).rays(1, 1)[0] for angles in ((90, 0), (0, 20)))
    assert right == pytest.approx([1, 0, 0], abs=1e-6)
    assert up == pytest.approx([0, math.cos(math.radians(20)), math.sin(math.radians(20))], abs=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_frame():
    first, again, other = render_scene(1, SMALL), render_scene(1, SMALL), render_scene(2, SMALL)
    assert torch.equal(first.image, again.image) and torch.equal(first.depth_m, again.depth_m)
    assert not torch.equal(first.image, other.image) and not torch.equal(first.depth_m, other.depth_m)


def test_antialiasing_changes_the_picture_but_not_the_depth():
    plain, fine = render_scene(1, SMALL), render_scene(1, SMALL, antialias=True)
    assert torch.equal(plain.depth_m, fine.depth_m) and not torch.equal(plain.image, fine.image)


def test_a_glowing_box_is_bright_in_exactly_the_pixels_where_it_is_near():
    scene = Scene()
    scene.box(ORIGIN, (0, 9, 0), (90, 1, 90), scene.material(mat.row(Random(0), (0, 0, 0), (0, 0, 0))))
    scene.box(ORIGIN, (0.4, 4, 0.3), (1, 1, 1), scene.material(mat.glow(Random(0), (1, 1, 1), 1.0)), 0.5)
    camera = Camera((0, 0, 0), 3, 2, 4, 60)
    near, bright = depth_of(scene, camera) < 6, picture_of(scene, camera).mean(2) > 0.5
    assert 10 < near.sum() < near.size / 2
    assert np.array_equal(near, bright)


def test_depth_edges_lie_on_picture_edges():
    on_edge, beside = [], []
    for seed in range(6):
        sample = render_scene(seed, (96, 128))
        steps = sample.image.mean(0).diff(dim=1).abs()
        log_depth = sample.depth_m[0].clamp(min=0.1).log()
        edges = log_depth.diff(dim=1).abs() > 0.2
        on_edge.append(steps[edges].mean())
        beside.append(steps[:, 6:][edges[:, :-6]].mean())
    assert np.mean(on_edge) > 1.8 * np.mean(beside)


def test_sky_is_invalid_with_depth_zero_and_everything_else_is_valid_and_in_front():
    sample = render_scene(first_outdoor_seed(), SMALL)
    assert (sample.depth_m[~sample.valid] == 0).all() and (sample.depth_m[sample.valid] > 0.1).all()
    rows = sample.valid[0].float().mean(1)
    assert rows[0] < rows[-1] == 1


def test_a_frame_has_the_asked_for_size_and_uses_the_range():
    sample = render_scene(4, (48, 64))
    assert sample.image.shape == (3, 48, 64)
    assert 0 <= sample.image.min() < sample.image.max() <= 1


@pytest.mark.parametrize(("seed", "size"), [(-1, SMALL), (0, (8, 64))])
def test_a_negative_seed_or_a_tiny_size_is_refused(seed, size):
    with pytest.raises(ValueError, match="seed >= 0"):
        render_scene(seed, size)


def test_light_falls_off_with_the_square_of_the_distance():
    camera = Camera((0, 0, 1.0), 0, -89.9, 0, 20)
    low, high = (picture_of(floor_scene(), camera, [lamp(h)])[12, 20, 0] for h in (2.0, 4.0))
    assert low == pytest.approx(4 * high, rel=0.02)


def test_a_shelf_under_the_lamp_casts_a_shadow():
    scene = floor_scene()
    scene.box(ORIGIN, (0, 0, 2), (2, 2, 0.1), scene.material(mat.plain(Random(0))))
    picture = picture_of(scene, Camera((0, 0, 1.5), 0, -89.9, 0, 140), [lamp(3)])
    assert picture[12, 20, 0] == 0 and picture[12, 0, 0] > 0


def test_ambient_light_is_dimmer_in_a_corner():
    scene = floor_scene()
    scene.box(ORIGIN, (0, 1.3, 1.5), (20, 1, 3), scene.material(mat.plain(Random(0), (0.8, 0.8, 0.8), gloss=0)))
    camera = Camera((0, 0, 2.9), 0, -90, 0, 70)
    picture = picture_of(scene, camera, ambient=np.ones(3, np.float32))
    on_floor = np.abs(depth_of(scene, camera) - 2.9).max(1) < 0.02
    beside_the_wall = np.flatnonzero(on_floor)[0]
    assert picture[beside_the_wall].mean() < 0.85 * picture[-1].mean()


def test_a_mirror_floor_shows_the_lamp_that_a_dull_floor_does_not():
    def brightest(mirror):
        scene = Scene()
        black = mat.row(Random(0), (0, 0, 0), (0, 0, 0), mirror=mirror)
        scene.box(ORIGIN, (0, 0, -0.5), (60, 60, 1), scene.material(black))
        scene.box(ORIGIN, (0, 6, 4), (2, 2, 2), scene.material(mat.glow(Random(0), (1, 1, 1), 1.0)))
        return picture_of(scene, Camera((0, 0, 3.0), 0, -40, 0, 60)).max()

    assert brightest(0.2) > 0.1 and brightest(0.0) == 0


def signed_volume(scene):
    geometry = scene.finish()
    a, b, c = (geometry.vertices[geometry.faces[:, k]].astype(float) for k in range(3))
    return (a * np.cross(b, c)).sum() / 6


def test_boxes_and_bars_face_outwards_and_have_their_volume():
    scene = Scene()
    scene.box(Place(1, 2, 3, 0.4), (0.5, 0, 0), (1, 2, 3), 0, 0.3)
    scene.bar(Place(1, 2, 3, 0.4), (0, 0, 0), (2, 3, 6), 0.1, 0)
    scene.slab(Place(1, 2, 3, 0.4), (0, 0, 0), (1, 1, 0.5), 0, 0.7)
    scene.material(mat.plain(Random(0)))
    assert signed_volume(scene) == pytest.approx(6 + 0.07 + 0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("mesh", "volume", "slack"),
    [
        (BALL, math.pi / 6, 0.08),
        (ROD, math.pi / 4, 0.08),
        (DRUM, math.pi / 4, 0.05),
        (CUSHION, 0.85, 0.1),
        (lathe([(0.001, 0), (1, 0), (0.001, 1)], 40), math.pi / 3, 0.02),
    ],
)
def test_round_meshes_face_outwards_and_have_about_their_volume(mesh, volume, slack):
    scene = Scene()
    scene.mesh(Place(1, 2, 3, 0.4), mesh, (0, 1, 0), (2, 1, 1), scene.material(mat.plain(Random(0))), tilt=0.5)
    assert signed_volume(scene) == pytest.approx(2 * volume, rel=slack)


def test_a_wall_is_solid_but_for_its_openings():
    scene = Scene()
    add_wall(scene, Wall(ORIGIN, 4.0), 3.0, [(1, 2, 0.5, 2)], scene.material(mat.plain(Random(0))), None)
    points = np.array([[x, 5, z] for x, z in [(1.5, 1), (1.5, 0.2), (1.5, 2.5), (0.5, 1), (3, 1)]], np.float32)
    toward = np.tile(np.float32([0, -1, 0]), (len(points), 1))
    assert (Tracer(scene.finish()).cast(points, toward).prim < 0).tolist() == [True] + [False] * 4


REPEATING = [tx.WOOD, tx.TILES, tx.NOISE, tx.STRIPES, tx.MARBLE, tx.WEAVE, tx.PLAID, tx.DOTS]


@pytest.mark.parametrize("pattern", REPEATING)
def test_a_pattern_fades_to_an_even_tone_when_a_pixel_covers_many_of_its_periods(pattern):
    def spread(footprint):
        row = np.float32(mat.row(Random(0), (1, 1, 1), pattern=pattern, scale=(0.1, 0.1), bond=0.5))
        grid = [(0.037 * i, 0.053 * j) for i in range(12) for j in range(12)]
        return np.std([tx.pattern_value(row, u, v, 0.5, 0.5, footprint, 3) for u, v in grid], 0).max()

    assert spread(0.0005) > 0.03
    assert spread(3.0) < 0.3 * spread(0.0005)


def test_room_cameras_stay_within_the_promised_angles_and_inside_the_room():
    for seed in range(8):
        rng = Random(seed)
        room = build_room(rng)
        for camera in (room_camera(room, rng) for _ in range(10)):
            assert -50 <= camera.pitch_deg <= 20 and abs(camera.roll_deg) <= 6 and 45 <= camera.fov_deg <= 85
            x, y, z = camera.eye
            assert 0 < x < room.width and 0 < y < room.length and 0.3 < z < min(2.1, room.height)


def test_frames_are_not_taken_from_inside_things():
    for seed in range(12):
        depth = render_scene(seed, SMALL).depth_m
        assert torch.quantile(depth[depth > 0], 0.05) > 0.25


def run_synth(folder, *options):
    parser = argparse.ArgumentParser()
    synth.add_arguments(parser)
    return synth.run(parser.parse_args([str(folder), "--size", "24", "40", *options]))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_command_renders_only_what_is_missing_and_leaves_the_rest_alone(tmp_path):
    assert run_synth(tmp_path, "--count", "3", "--seed", "5") == 0
    before = files(tmp_path)
    assert sorted(before) == sorted(p.name for s in (5, 6, 7) for p in frame_paths(tmp_path, s))
    frame_paths(tmp_path, 5)[0].write_bytes(b"kept")
    frame_paths(tmp_path, 6)[1].unlink()
    run_synth(tmp_path, "--count", "4", "--seed", "5")
    after, kept = files(tmp_path), frame_paths(tmp_path, 5)[0].name
    assert len(after) == 8
    assert {name for name in before if before[name] != after[name]} == {kept} and after[kept] == b"kept"


def test_files_hold_the_frame_and_millimetres_clipped_at_the_greatest_code(tmp_path):
    seed = first_outdoor_seed()
    assert list(write_frames(tmp_path, [seed], SMALL)) == [seed]
    picture, depth = (np.asarray(Image.open(path)) for path in frame_paths(tmp_path, seed))
    sample = render_scene(seed, SMALL)
    assert depth.dtype == np.uint16 and (depth[~sample.valid[0].numpy()] == 0).all()
    assert depth == pytest.approx(np.minimum(sample.depth_m[0].numpy() * 1000, 65535), abs=0.51)
    assert (depth == 65535).any()
    assert abs(picture / 255.0 - sample.image.permute(1, 2, 0).numpy()).mean() < 0.03


def test_frames_do_not_depend_on_the_number_of_workers(tmp_path):
    done = [list(write_frames(tmp_path / str(k), range(5), SMALL, workers=k)) for k in (1, 2)]
    assert done[0] == done[1] == list(range(5))
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_frames_of_another_size_are_not_mixed_into_a_folder(tmp_path):
    list(write_frames(tmp_path, [5], SMALL))
    before = files(tmp_path)
    with pytest.raises(ValueError, match="00000005_depth_mm.png has 40 x 24 pixels, not 32 x 24"):
        list(write_frames(tmp_path, [4, 5], (24, 32)))
    assert files(tmp_path) == before


@pytest.mark.parametrize("options", [("--count", "0"), ("--workers", "0")])
def test_the_command_refuses_to_render_nothing(tmp_path, options):
    with pytest.raises(ValueError, match="at least 1"):
        run_synth(tmp_path, *options)


def test_without_numba_the_error_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "depthfm_core.data.synthetic")
    with pytest.raises(ImportError, match=r'pip install -e "\.\[train\]"'):
        importlib.import_module("depthfm_core.data.synthetic")
