"""Which pictures `predict` takes, how their results are called, and what is left when something fails."""

import errno
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image

from depthfm_core.__main__ import main
from depthfm_core.cli.outputs import OUTPUTS
from depthfm_core.depth.files import write_png, write_png16
from depthfm_core.model.catalog import EXAMPLE_PHOTO

from .test_cli import HEIGHT, WIDTH, names, pixels


def test_pictures_that_differ_in_the_suffix_alone_keep_it_and_one_named_twice_is_estimated_once(saved, photo, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.jpg"):
        Image.open(photo).save(tmp_path / "in" / name)
    _, _, folder = saved("--save", "npy", inputs=(tmp_path / "in", tmp_path / "in" / ".." / "in" / "a.png"))
    assert sorted(path.name for path in folder.iterdir()) == ["a.jpg.npy", "a.png.npy"]


@pytest.mark.parametrize(
    ("inputs", "results"),
    [
        (("left/1.png", "right/1.png"), ["left_1", "right_1"]),
        (("image_02/data/1.png", "image_03/data/1.png", "2.png"), ["2", "image_02_data_1", "image_03_data_1"]),
        (("x.jpg", "X.JPG", "x.png"), ["X.JPG", "x.jpg_2", "x.png"]),
        (("a/1.png", "b/1.png", "a_1.png"), ["a_1", "a_1.png", "b_1"]),
    ],
)
def test_pictures_of_one_name_have_results_of_their_own(saved, loaded, photo, tmp_path, inputs, results):
    for name in inputs:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.open(photo).save(tmp_path / "in" / name)
    if len(list((tmp_path / "in").rglob("*.*"))) < len(inputs):
        pytest.skip("this disk takes names that differ in case alone for one")
    lines, _, folder = saved("--save", "npy,color", inputs=sorted(tmp_path / "in" / name for name in inputs))
    assert names(folder) == sorted(f"{result}{ending}" for result in results for ending in (".npy", "_color.png"))
    assert sorted(line for line in lines if str(folder) in line) == sorted(str(path) for path in folder.iterdir())


def test_a_link_to_a_picture_is_a_picture_of_its_own_and_a_linked_folder_is_not(saved, photo, tmp_path):
    (tmp_path / "in").mkdir()
    Image.open(photo).save(tmp_path / "in" / "a.png")
    try:
        (tmp_path / "in" / "b.png").symlink_to(tmp_path / "in" / "a.png")
        (tmp_path / "linked").symlink_to(tmp_path / "in", target_is_directory=True)
    except OSError:
        pytest.skip("links need a right that this user does not have")
    _, _, folder = saved("--save", "npy", inputs=(tmp_path / "in", tmp_path / "linked"))
    assert sorted(path.name for path in folder.iterdir()) == ["a.npy", "b.npy"]


def test_without_inputs_the_example_is_estimated_by_nano(tmp_path, capsys):
    assert main(["predict", "--output", str(tmp_path / "out"), "--steps", "1"]) == 0
    assert names(tmp_path / "out") == ["room_color.png", "room_depth16.png"]
    with Image.open(EXAMPLE_PHOTO) as example:
        assert pixels(tmp_path / "out" / "room_depth16.png").shape == example.size[::-1]
    assert capsys.readouterr().err == ""


def test_of_a_folder_the_pictures_are_taken_in_order(saved, loaded, photo, tmp_path):
    folder = tmp_path / "pictures"
    (folder / "inner").mkdir(parents=True)
    for name in ("b.png", "a.v2.JPG", ".hidden.png", "inner/c.png"):
        Image.open(photo).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    (folder / "data.h5").write_bytes(b"no picture either")
    lines, errors, output = saved("--save", "npy", inputs=(folder, photo))
    assert errors == ""
    assert names(output) == ["a.v2.npy", "b.npy", "photo.npy"]
    assert [line for line in lines if line.endswith(".npy")] == [
        str(output / name) for name in ("a.v2.npy", "b.npy", "photo.npy")
    ]


@pytest.mark.parametrize("name", ["rotated.jpg", "alpha.png", "grey.png", "deep.png"])
def test_unusual_pictures_keep_their_upright_size(saved, loaded, photo, tmp_path, name):
    image, exif = Image.open(photo), Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    forms = {
        "rotated.jpg": image,
        "alpha.png": image.convert("RGBA"),
        "grey.png": image.convert("L"),
        "deep.png": Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257),
    }
    forms[name].save(tmp_path / name, **({"exif": exif} if name == "rotated.jpg" else {}))
    _, _, folder = saved("--save", "npy", inputs=(tmp_path / name,))
    upright = (WIDTH, HEIGHT) if name == "rotated.jpg" else (HEIGHT, WIDTH)
    assert np.load((folder / name).with_suffix(".npy")).shape == upright


def test_a_bad_picture_is_reported_and_the_others_go_on(saved, loaded, photo, tmp_path):
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:60])
    shutil.copy(photo, tmp_path / "second.png")
    inputs = (photo, tmp_path / "broken.png", tmp_path / "second.png")
    lines, errors, folder = saved("--save", "npy", inputs=inputs, code=2)
    assert names(folder) == ["photo.npy", "second.npy"]
    assert errors.startswith("depthfm: ") and "broken.png" in errors and errors.count("\n") == 1
    assert len(lines) == 4


def test_a_resolution_that_the_model_refuses_is_told_once(saved, cli_model, photo, tmp_path):
    shutil.copy(photo, tmp_path / "second.png")
    _, errors, folder = saved(*cli_model, "--resolution", "15", inputs=(photo, tmp_path / "second.png"), code=2)
    assert errors.count("\n") == 1 and "--resolution 15 " in errors and "choose 16 or more" in errors
    assert not folder.exists()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_a_picture_too_small_for_normals_gets_the_other_kinds_and_advice(saved, loaded, tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "dot.png")
    lines, errors, folder = saved("--save", "normals,npy,color", inputs=(tmp_path / "dot.png",), code=2)
    assert f"not {size[0]} x {size[1]}; leave normals out of --save" in errors and errors.count("\n") == 1
    assert lines == [str(folder / "dot.npy"), str(folder / "dot_color.png")]
    assert names(folder) == ["dot.npy", "dot_color.png"]


def test_files_that_are_there_are_told_when_another_fails_and_what_comes_later_is_not_tried(
    saved, loaded, photo, monkeypatch
):
    def full(_path, _values):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(OUTPUTS["npy"].files, ".npy", full)
    lines, errors, folder = saved("--save", "color,npy,depth16,tiff", code=2)
    assert lines == [str(folder / "photo_color.png"), str(folder / "photo_depth16.png")]
    assert names(folder) == ["photo_color.png", "photo_depth16.png"]
    assert str(photo) in errors and "No space left" in errors and errors.count("\n") == 1


def test_files_that_are_there_are_told_when_there_is_too_little_memory_for_the_next_kind(saved, loaded, monkeypatch):
    def full(*_args):
        raise MemoryError

    monkeypatch.setitem(OUTPUTS, "npy", OUTPUTS["npy"]._replace(views=full))
    lines, errors, folder = saved("--save", "color,npy,depth16", code=2)
    assert lines == [str(folder / "photo_color.png")] and names(folder) == ["photo_color.png"]
    assert "memory" in errors and errors.count("\n") == 1


def test_two_files_are_written_at_once_and_told_in_the_order_that_was_asked_for(saved, loaded, monkeypatch):
    second_is_there = threading.Event()

    def first(path, values):
        assert second_is_there.wait(30)
        write_png(path, values)

    def second(path, values):
        write_png16(path, values)
        second_is_there.set()

    monkeypatch.setitem(OUTPUTS["color"].files, "_color.png", first)
    monkeypatch.setitem(OUTPUTS["depth16"].files, "_depth16.png", second)
    lines, errors, folder = saved("--save", "color,depth16,npy")
    files = [str(folder / f"photo{ending}") for ending in ("_color.png", "_depth16.png", ".npy")]
    assert lines[:3] == files and errors == ""


def test_an_interrupt_between_files_leaves_the_one_that_was_begun_whole_and_nothing_else(saved, loaded, monkeypatch):
    begun = threading.Event()

    def slow(path, values):
        begun.set()
        time.sleep(0.05)
        write_png16(path, values)

    def interrupted(*_args):
        assert begun.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setitem(OUTPUTS["depth16"].files, "_depth16.png", slow)
    monkeypatch.setitem(OUTPUTS, "color", OUTPUTS["color"]._replace(views=interrupted))
    _, errors, folder = saved("--save", "depth16,color,npy", code=130)
    assert names(folder) == ["photo_depth16.png"] and pixels(folder / "photo_depth16.png").shape == (HEIGHT, WIDTH)
    assert errors == "depthfm: interrupted.\n"
