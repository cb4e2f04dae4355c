"""Writing depth maps and pictures; for reading see test_files.py."""

import os
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core.depth.color import colorize
from depthfm_core.depth.files import (
    check_ending,
    read_image,
    write_exr,
    write_npy,
    write_png,
    write_png16,
    write_tiff,
)
from depthfm_core.depth.normals import normals_from_depth, normals_to_image
from depthfm_core.model.catalog import EXAMPLE_PHOTO
from depthfm_core.replacing import OutputError

LEVEL = 1 / 255
WRITERS = {"png": write_png16, "npy": write_npy, "tiff": write_tiff, "exr": write_exr}  # of [H, W] in [0, 1]


def depth_map(height=5, width=8, seed=0):
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed))


def read_exr(path):
    OpenEXR = pytest.importorskip("OpenEXR")
    with OpenEXR.File(str(path)) as file:
        return np.array(file.channels()["Y"].pixels)


def test_png16_comes_back_within_half_a_level_and_keeps_the_ends(tmp_path):
    depth = depth_map()
    depth[0, 0], depth[0, 1] = 0, 1
    write_png16(tmp_path / "a.png", depth)
    back = np.array(Image.open(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes()[24:26] == bytes([16, 0])  # IHDR: 16 bits, gray
    assert (back[0, 0], back[0, 1]) == (0, 65535)
    assert np.abs(back / 65535 - depth.double().numpy()).max() <= 0.51 / 65535


def test_png_comes_back_within_half_a_level(tmp_path):
    image = torch.rand(3, 5, 8, generator=torch.Generator().manual_seed(0))
    write_png(tmp_path / "a.png", image)
    assert (read_image(tmp_path / "a.png")[0] - image).abs().max() <= 0.51 * LEVEL
    assert Image.open(tmp_path / "a.png").mode == "RGB"


def test_quicker_pngs_hold_the_same_pixels_and_are_hardly_larger_than_pillows_own(tmp_path):
    photo = read_image(EXAMPLE_PHOTO)[0]
    depth = torch.nn.functional.avg_pool2d(photo.mean(0, keepdim=True)[None], 9, 1)[0, 0]
    views = (colorize(depth[None, None])[0], normals_to_image(normals_from_depth(0.5 + depth[None, None]))[0])
    for write, values in ((write_png16, depth), *((write_png, view) for view in (photo, *views))):
        write(tmp_path / "quick.png", values)
        with Image.open(tmp_path / "quick.png") as quick:
            quick.save(tmp_path / "pillows.png")
            assert np.array_equal(np.array(quick), np.array(Image.open(tmp_path / "pillows.png")))
        assert (tmp_path / "quick.png").stat().st_size < 1.15 * (tmp_path / "pillows.png").stat().st_size


def test_npy_comes_back_with_its_shape_and_dtype(tmp_path):
    for array in (np.arange(24).reshape(2, 3, 4), depth_map().numpy(), torch.rand(1, 1, 2, 2).half()):
        write_npy(tmp_path / "a.npy", array)
        back = np.load(tmp_path / "a.npy")
        assert np.array_equal(back, np.asarray(array))
        assert back.dtype == np.asarray(array).dtype


def test_tiff_comes_back_exactly(tmp_path):
    depth = depth_map() * 100 - 50
    write_tiff(tmp_path / "a.tif", depth)
    back = np.array(Image.open(tmp_path / "a.tif"))
    assert back.dtype == np.float32
    assert np.array_equal(back, depth.numpy())


def test_exr_comes_back_exactly(tmp_path):
    pytest.importorskip("OpenEXR")
    depth = depth_map() * 100 - 50
    write_exr(tmp_path / "a.exr", depth)
    back = read_exr(tmp_path / "a.exr")
    assert back.dtype == np.float32
    assert np.array_equal(back, depth.numpy())


@pytest.mark.skipif(sys.platform != "linux", reason="names are not bytes there")
def test_exr_takes_a_name_that_is_not_utf_8(tmp_path):
    pytest.importorskip("OpenEXR")
    for name in ("a.exr", os.fsdecode(b"\xff.exr")):
        write_exr(tmp_path / name, depth_map())
    assert (tmp_path / os.fsdecode(b"\xff.exr")).read_bytes() == (tmp_path / "a.exr").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


WITH_METADATA = {"png16": write_png16, "exr": write_exr}
METADATA = {"prompt": '{"1": {"inputs": {}}}', "workflow": "[" + "1, " * 40000 + "1]"}


def read_metadata(path):
    if path.suffix == ".png":
        with Image.open(path) as file:
            return file.text
    with pytest.importorskip("OpenEXR").File(str(path)) as file:
        return dict(file.header())


@pytest.mark.parametrize("name", WITH_METADATA)
def test_metadata_comes_back_and_does_not_change_the_values(tmp_path, name):
    if name == "exr":
        pytest.importorskip("OpenEXR")
    suffix = {"png16": "png", "exr": "exr"}[name]
    plain, told = tmp_path / f"plain.{suffix}", tmp_path / f"told.{suffix}"
    WITH_METADATA[name](plain, depth_map())
    WITH_METADATA[name](told, depth_map(), METADATA)
    assert {key: text for key, text in read_metadata(told).items() if key not in read_metadata(plain)} == METADATA
    if name == "exr":
        assert np.array_equal(read_exr(told), read_exr(plain))
    else:
        assert np.array_equal(np.array(Image.open(told)), np.array(Image.open(plain)))


def test_png_metadata_may_hold_any_letters(tmp_path):
    write_png16(tmp_path / "a.png", depth_map(), {"note": "\u6df1\u5ea6 \u00fc"})
    assert read_metadata(tmp_path / "a.png")["note"] == "\u6df1\u5ea6 \u00fc"


@pytest.mark.parametrize("found", [None, ModuleType("OpenEXR")])  # an old one has another interface
def test_exr_without_its_package_says_how_to_get_it(tmp_path, monkeypatch, found):
    monkeypatch.setitem(sys.modules, "OpenEXR", found)
    with pytest.raises(ValueError, match="3.3 or newer.*pip install -U OpenEXR"):
        write_exr(tmp_path / "a.exr", depth_map())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_takes_tensors_and_arrays_that_need_grad_or_are_not_contiguous(tmp_path, name):
    if name == "exr":
        pytest.importorskip("OpenEXR")
    depth = depth_map().requires_grad_()
    WRITERS[name](tmp_path / f"a.{name}", depth.T)
    WRITERS[name](tmp_path / f"b.{name}", np.ascontiguousarray(depth.detach().T.numpy()))
    WRITERS[name](tmp_path / f"c.{name}", np.flipud(np.flipud(depth.detach().T.numpy())))
    assert (
        (tmp_path / f"a.{name}").read_bytes()
        == (tmp_path / f"b.{name}").read_bytes()
        == (tmp_path / f"c.{name}").read_bytes()
    )


def test_npy_holds_bfloat16_as_float32(tmp_path):
    write_npy(tmp_path / "a.npy", torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    loaded = np.load(tmp_path / "a.npy")
    assert loaded.dtype == np.float32 and loaded.tolist() == [1.5, -2.0]


@pytest.mark.parametrize("name", WRITERS)
def test_writing_replaces_an_older_file_and_leaves_nothing_else(tmp_path, name):
    if name == "exr":
        pytest.importorskip("OpenEXR")
    (tmp_path / f"a.{name}").write_bytes(b"old")
    WRITERS[name](tmp_path / f"a.{name}", depth_map())
    assert (tmp_path / f"a.{name}").read_bytes() != b"old"
    assert [path.name for path in tmp_path.iterdir()] == [f"a.{name}"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_target_that_cannot_be_written_is_a_clear_error_and_leaves_nothing(tmp_path, name):
    if name == "exr":
        pytest.importorskip("OpenEXR")
    (tmp_path / f"folder.{name}").mkdir()
    with pytest.raises(OutputError, match="Cannot write.*folder"):
        WRITERS[name](tmp_path / f"folder.{name}", depth_map())
    with pytest.raises(OutputError, match="does not exist; make it first"):
        WRITERS[name](tmp_path / "nowhere" / f"a.{name}", depth_map())
    assert [path.name for path in tmp_path.iterdir()] == [f"folder.{name}"]
    assert list((tmp_path / f"folder.{name}").iterdir()) == []


@pytest.mark.parametrize("error", [OSError("disk full"), RuntimeError("codec"), KeyboardInterrupt()])
def test_a_failure_half_way_keeps_the_old_file_and_no_other(tmp_path, monkeypatch, error):
    def save_half(_image, path, **_options):
        path.write_bytes(b"half")
        raise error

    (tmp_path / "a.png").write_bytes(b"old")
    monkeypatch.setattr(Image.Image, "save", save_half)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OutputError):
        write_png16(tmp_path / "a.png", depth_map())
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_the_file_appears_under_its_name_only_when_it_is_whole(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(np, "save", lambda file, *_a, **_k: seen.append((file.name, (tmp_path / "a.npy").exists())))
    write_npy(tmp_path / "a.npy", depth_map())
    [(name, target_existed)] = seen
    assert name != str(tmp_path / "a.npy")
    assert not target_existed
    assert (tmp_path / "a.npy").exists()


@pytest.mark.parametrize(
    ("write", "endings"),
    [
        (write_png16, (".png",)),
        (write_png, (".png",)),
        (write_npy, (".npy",)),
        (write_tiff, (".tiff", ".tif")),
        (write_exr, (".exr",)),
    ],
)
def test_a_name_says_what_is_in_the_file(tmp_path, write, endings):
    for name in ("a", "a.jpg", f"a{endings[0]}.bak"):
        with pytest.raises(ValueError, match=f"must end in {' or '.join(endings)}"):
            write(tmp_path / name, depth_map())
    for name in (f"a{endings[-1]}", f"B{endings[0].upper()}"):
        check_ending(name, *endings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writer", [write_png16, write_png])
@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_png_refuses_values_outside_of_0_to_1(tmp_path, writer, value):
    values = torch.full((3, 4, 5) if writer is write_png else (4, 5), 0.5)
    values[..., 0] = value
    with pytest.raises(ValueError, match=r"PNG stores \[0, 1\]"):
        writer(tmp_path / "a.png", values)
    assert list(tmp_path.iterdir()) == []


NAMES = {write_png16: "a.png", write_tiff: "a.tiff"}


@pytest.mark.parametrize("writer", NAMES)
def test_nan_and_other_shapes_are_errors(tmp_path, writer):
    with pytest.raises(ValueError, match="NaN or infinity"):
        writer(tmp_path / NAMES[writer], torch.full((2, 3), torch.nan))
    for shape in ((1, 1, 4, 5), (3, 4, 5), (5,), (0, 5)):
        with pytest.raises(ValueError, match=r"stores \[H, W\]"):
            writer(tmp_path / NAMES[writer], torch.zeros(shape))
    with pytest.raises(ValueError, match=r"stores \[3, H, W\]"):
        write_png(tmp_path / "a.png", torch.zeros(4, 4, 5))
    assert list(tmp_path.iterdir()) == []
