"""The protocol's rules, against values worked out by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from depthfm_core.data import diode, kitti, nyu, scannet
from depthfm_core.data.entries import Entry
from depthfm_core.evaluation import protocol
from depthfm_core.evaluation.protocol import BENCHMARKS, choose_benchmark

from .rgbd_files import bounds, write_npy, write_picture, write_png16

BENCHMARKS_PAGE = Path(__file__).parents[1] / "docs/benchmarks.md"
# Name: images, least and greatest depth in metres, long side for the network, side for the fit. Marigold's `config`.
RULES = {
    "nyu": (654, 1e-3, 10, None, None),
    "kitti": (652, 1e-5, 80, None, None),
    "eth3d": (454, 1e-5, math.inf, 756, 1024),
    "scannet": (800, 1e-3, 10, None, None),
    "diode": (771, 0.6, 350, 640, None),
    "folder": (None, 0, math.inf, None, None),
}


def rules_of(benchmark):
    return (
        benchmark.num_images,
        benchmark.min_depth_m,
        benchmark.max_depth_m,
        benchmark.long_side_px,
        benchmark.alignment_max_side,
    )


def test_the_table_holds_the_protocols_numbers():
    assert {name: rules_of(benchmark) for name, benchmark in BENCHMARKS.items()} == RULES


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("nyu", (480, 640), (480, 640)),
        ("eth3d", (4032, 6048), (504, 756)),
        ("eth3d", (6048, 4032), (756, 504)),
        ("eth3d", (200, 300), (504, 756)),  # smaller pictures are enlarged too
        ("diode", (768, 1024), (480, 640)),
        ("diode", (1, 4000), (1, 640)),
        ("eth3d", (1001, 1500), (504, 756)),  # 504.504, rounded down as by Marigold
        ("diode", (999, 1500), (426, 640)),
        ("diode", (1500, 1001), (640, 427)),
    ],
)
def test_methods_get_the_picture_with_the_long_side_of_the_protocol(name, size, expected):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    prepared = protocol.prepare_image(image, BENCHMARKS[name])
    assert tuple(prepared.shape[2:]) == expected
    assert 0 <= prepared.min() and prepared.max() <= 1


def test_a_smaller_prediction_is_enlarged_linearly_between_pixel_centers():
    prediction = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    enlarged = protocol.prepare_prediction(prediction, (1, 4))
    assert enlarged.flatten().tolist() == pytest.approx([0, 0.25, 0.75, 1])


def test_a_larger_prediction_is_shrunk_with_the_antialiasing_filter():
    prediction = torch.tensor([0.0, 1.0]).repeat(8).reshape(1, 1, 1, 16)
    shrunk = protocol.prepare_prediction(prediction, (1, 4))
    # The triangle filter spans 8 columns, 1 3 5 7 7 5 3 1 over 32: half of the stripes anywhere inside.
    assert shrunk[..., 1:3].flatten().tolist() == pytest.approx([0.5, 0.5])
    # At the left border its first two columns lie outside of the map, and the others share the weight.
    weights = np.array([5, 7, 7, 5, 3, 1])
    assert shrunk[0, 0, 0, 0].item() == pytest.approx(weights[1::2].sum() / weights.sum())


def test_a_prediction_of_the_right_size_is_left_alone_and_float64_stays_float64():
    prediction = torch.rand(2, 1, 5, 7, dtype=torch.float64)
    assert protocol.prepare_prediction(prediction, (5, 7)) is prediction
    assert protocol.prepare_prediction(prediction, (10, 3)).dtype == torch.float64


@pytest.mark.parametrize("size", [(3, 4), (23, 31)])
def test_resizing_never_leaves_the_range_of_the_prediction(size):
    prediction = torch.randint(0, 2, (1, 1, 9, 9), generator=torch.Generator().manual_seed(0)).float()
    resized = protocol.prepare_prediction(prediction, size)
    assert resized.min() >= 0
    assert resized.max() <= 1


@pytest.mark.parametrize("shape", [(5, 7), (1, 3, 5, 7)])
def test_a_prediction_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"\[B, 1, h, w\]"):
        protocol.prepare_prediction(torch.zeros(shape), (5, 7))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nyu", [1e-3, 1e-3, 5.0, 10.0]),
        ("kitti", [1e-5, 1e-5, 5.0, 80.0]),
        ("eth3d", [1e-5, 1e-5, 5.0, 900.0]),
        ("diode", [0.6, 0.6, 5.0, 350.0]),
        ("folder", [1e-6, 1e-6, 5.0, 900.0]),
    ],
)
def test_aligned_depth_is_cut_to_the_data_sets_range_and_stays_positive(name, expected):
    depth_m = torch.tensor([-3.0, 0.0, 5.0, 900.0], dtype=torch.float64)
    assert protocol.clip_aligned(depth_m, BENCHMARKS[name]).tolist() == expected


@pytest.mark.parametrize(("mask", "first_row"), [(None, 117), ("eigen", 117), ("garg", 143), ("none", 0)])
def test_kittis_mask_can_be_chosen_and_the_notes_tell_it(tmp_path, mask, first_row):
    write_picture(tmp_path / "a.png", 352, 1216)
    write_png16(tmp_path / "d.png", np.full((352, 1216), 2560))
    benchmark = choose_benchmark("kitti", kitti_mask=mask)
    sample = benchmark.read(Entry("a", tmp_path / "a.png", tmp_path / "d.png"))
    assert bounds(sample.valid)[0] == first_row
    assert benchmark.notes.endswith(f"Mask within the crop: {mask or 'eigen'}.")


@pytest.mark.parametrize(("chosen", "note"), [(False, "No gradient filter"), (True, "not comparable")])
def test_diodes_filter_can_be_chosen_and_the_notes_tell_it(tmp_path, chosen, note):
    write_picture(tmp_path / "a.png", 4, 6)
    write_npy(tmp_path / "d.npy", np.repeat([[1.0, 1, 1, 5, 5, 5]], 4, axis=0))
    write_npy(tmp_path / "m.npy", np.ones((4, 6)))
    benchmark = choose_benchmark("diode", diode_gradient_filter=chosen)
    sample = benchmark.read(Entry("a", tmp_path / "a.png", tmp_path / "d.npy", {"mask": tmp_path / "m.npy"}))
    assert sample.valid.sum() == (16 if chosen else 24)
    assert note in benchmark.notes


@pytest.mark.parametrize("name", ["nyu", "eth3d", "scannet", "folder"])
def test_the_other_benchmarks_are_chosen_as_they_stand(name):
    assert choose_benchmark(name) is BENCHMARKS[name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "sintel"}, "'sintel'.*nyu, kitti, eth3d, scannet, diode, folder"),
        ({"name": "kitti", "kitti_mask": "bts"}, "'bts'.*eigen, garg, none"),
        ({"name": "nyu", "kitti_mask": "eigen"}, "nyu.*kitti alone"),
        ({"name": "kitti", "diode_gradient_filter": True}, "kitti.*diode alone"),
    ],
)
def test_options_that_do_not_apply_are_refused_with_what_does(arguments, message):
    with pytest.raises(ValueError, match=message):
        choose_benchmark(**arguments)


def test_an_unchosen_option_is_marigolds():
    assert choose_benchmark("kitti").read.keywords == {"mask": kitti.DEFAULT_MASK} == {"mask": "eigen"}
    assert choose_benchmark("diode").read.func is diode.read
    assert choose_benchmark("diode").read.keywords == {"gradient_filter": False}


@pytest.mark.parametrize("name", ["nyu", "kitti", "eth3d", "scannet", "diode"])
def test_the_documentation_has_a_command_and_the_number_of_images_for_each_benchmark(name):
    text = BENCHMARKS_PAGE.read_text(encoding="utf-8")
    assert f"evaluate --dataset {name} --root" in text
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {name} |") and ".tar`" in line]
    assert f" {BENCHMARKS[name].num_images} " in row


@pytest.mark.parametrize("reader", [nyu, kitti, scannet], ids=lambda reader: reader.NAME)
def test_the_list_that_an_error_asks_for_is_in_the_documentation(reader):
    source = reader.SPLIT_SOURCE.split()[0].removeprefix("data_split/")
    assert f"| `{source}` |" in BENCHMARKS_PAGE.read_text(encoding="utf-8")


def test_a_picture_is_shrunk_with_the_antialiasing_filter():
    stripes = (torch.arange(6048) % 3 == 0).float().expand(1, 3, 16, -1)
    assert (protocol.prepare_image(stripes, BENCHMARKS["eth3d"]) - 1 / 3).abs().max() < 0.05
