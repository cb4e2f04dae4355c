"""Reading pictures; for writing see test_files_writing.py."""

import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from depthfm_core.data.rasters import read_rgb
from depthfm_core.depth import files
from depthfm_core.depth.files import ImageFileError, read_image

LEVEL = 1 / 255


def colors(height=6, width=9, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def as_image(pixels):
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def png_header(path, width, height, bit_depth=1):
    """A PNG that claims any size, with a body too short for it."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, 0, 0, 0, 0)
    body = zlib.compress(bytes(16))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path


def test_an_rgb_png_is_read_exactly(tmp_path):
    image = read_image(save(tmp_path / "a.png", colors()))
    assert image.shape == (1, 3, 6, 9)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, as_image(colors()), atol=1e-7, rtol=0)


def test_a_path_may_be_a_string_with_spaces_and_other_letters(tmp_path):
    path = save(tmp_path / "\u00fcber den W\u00f6lken \u6df1.png", colors())
    assert torch.equal(read_image(str(path)), read_image(path))


@pytest.mark.parametrize("alpha", [0, 64, 255])
def test_alpha_is_composited_over_white(tmp_path, alpha):
    rgba = np.dstack([colors(), np.full((6, 9), alpha, np.uint8)])
    expected = 1 + alpha / 255 * (as_image(colors()) - 1)
    torch.testing.assert_close(read_image(save(tmp_path / "a.png", rgba)), expected, atol=LEVEL, rtol=0)


def test_gray_with_alpha_is_composited_over_white(tmp_path):
    gray_alpha = np.array([[[0, 0], [0, 255], [100, 51]]], np.uint8)
    image = read_image(save(tmp_path / "a.png", gray_alpha))
    expected = torch.tensor([1.0, 0.0, 1 + 0.2 * (100 / 255 - 1)]).expand(1, 3, 1, 3)
    torch.testing.assert_close(image, expected, atol=LEVEL, rtol=0)


def palette_picture():
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("L")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    return picture


def test_a_palette_is_looked_up(tmp_path):
    palette_picture().save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert torch.equal(read_image(tmp_path / "a.png")[0, :, 0], torch.eye(3))


@pytest.mark.parametrize("turn", [1, 6])
def test_a_gray_tiff_of_12_bits_fills_the_whole_range(tmp_path, turn):
    pixels = bytes([0xFF, 0xF3, 0xE8])  # 4095 and 1000 in 12 bits each
    short, long = 3, 4
    tags = [(256, short, 2), (257, short, 1), (258, short, 12), (259, short, 1), (262, short, 1), (273, long, 8)]
    tags += [(274, short, turn), (277, short, 1), (278, short, 1), (279, long, len(pixels))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = struct.pack("<2sHI", b"II", 42, 12) + pixels + b"\0"
    (tmp_path / "a.tif").write_bytes(head + struct.pack("<H", len(tags)) + entries + bytes(4))
    assert read_image(tmp_path / "a.tif")[0, 0].flatten().tolist() == pytest.approx([1, 1000 / 4095], abs=1e-4)


def test_the_transparent_value_of_a_gray_png_of_16_bits_becomes_white(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[1000, 30000]], np.uint16)).save(path, transparency=1000)
    image = read_image(path)
    assert image[0, :, 0, 0].tolist() == [1, 1, 1] and image[0, 0, 0, 1] == pytest.approx(30000 / 65535)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 255])])
def test_a_transparent_palette_entry_becomes_white(tmp_path, transparency):
    palette_picture().save(tmp_path / "a.png", transparency=transparency)
    expected = torch.tensor([[1.0, 0, 0], [1, 1, 1], [0, 0, 1]]).T
    assert torch.equal(read_image(tmp_path / "a.png")[0, :, 0], expected)


def test_a_transparent_color_of_an_rgb_png_becomes_white(tmp_path):
    pixels = np.array([[[10, 20, 30], [10, 20, 31]]], np.uint8)
    image = read_image(save(tmp_path / "a.png", pixels, transparency=(10, 20, 30)))
    torch.testing.assert_close(image[0, :, 0, 0], torch.ones(3))
    torch.testing.assert_close(image[0, :, 0, 1], torch.tensor([10, 20, 31]) / 255)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_gray_and_black_and_white_become_three_equal_channels(tmp_path, mode):
    gray = Image.fromarray(np.array([[0, 255, 255, 0]], np.uint8)).convert(mode)
    gray.save(tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.png"), torch.tensor([0.0, 1, 1, 0]).expand(1, 3, 1, 4))


def test_16_bit_gray_keeps_its_precision(tmp_path):
    gray = np.array([[0, 1, 255, 256, 32767, 65535]], np.uint16)
    image = read_image(save(tmp_path / "a.png", gray))
    assert image.shape == (1, 3, 1, 6)
    for channel in image[0]:
        torch.testing.assert_close(channel, torch.from_numpy(gray / 65535).float(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_gray_tiff_of_either_byte_order_keeps_its_precision(tmp_path, byteorder):
    tifffile = pytest.importorskip("tifffile")
    gray = np.array([[0, 1, 256, 65535]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", gray, byteorder=byteorder)
    image = read_image(tmp_path / "a.tif")
    torch.testing.assert_close(image[0, 2], torch.from_numpy(gray / 65535).float(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("meaning", [0, 1])
def test_a_16_bit_gray_tiff_may_say_that_zero_is_white(tmp_path, meaning):
    pixels = np.array([[0, 1, 40000, 65535]], np.uint16)
    image = read_image(save(tmp_path / "a.tif", pixels, tiffinfo={262: meaning}))
    expected = pixels / 65535 if meaning else 1 - pixels / 65535
    torch.testing.assert_close(image[0, 0], torch.from_numpy(expected).float(), atol=1e-7, rtol=0)


def test_16_bit_rgb_is_read_within_one_8_bit_level(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    expected = torch.from_numpy(values / 65535).permute(2, 0, 1)[None].float()
    assert (read_image(tmp_path / "a.tif") - expected).abs().max() <= LEVEL


def test_a_16_bit_rgb_png_is_read_within_one_8_bit_level(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    png = b"\x89PNG\r\n\x1a\n"
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    for kind, body in chunks:
        png += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    (tmp_path / "a.png").write_bytes(png)
    expected = torch.from_numpy(values / 65535).permute(2, 0, 1)[None].float()
    assert (read_image(tmp_path / "a.png") - expected).abs().max() <= LEVEL


def test_32_bit_integers_within_16_bits_are_scaled_by_65535_and_larger_ones_are_an_error(tmp_path):
    image = read_image(save(tmp_path / "a.tif", np.array([[0, 13107, 65535]], np.int32)))
    torch.testing.assert_close(image[0, 0], torch.tensor([[0.0, 0.2, 1.0]]))
    for value in (65536, -1):
        with pytest.raises(ImageFileError, match="accepted are 0 to 65535 for integers"):
            read_image(save(tmp_path / "b.tif", np.array([[0, value]], np.int32)))


def test_a_float_tiff_is_read_as_it_is_if_it_lies_in_0_to_1(tmp_path):
    values = np.array([[0.0, 0.123456, 1.0]], np.float32)
    assert torch.equal(read_image(save(tmp_path / "a.tif", values))[0, 1], torch.from_numpy(values))
    for value in (1.5, -0.1, np.nan, np.inf):
        with pytest.raises(ImageFileError, match="0 to 1 for floats"):
            read_image(save(tmp_path / "b.tif", np.array([[0.5, value]], np.float32)))


def test_cmyk_is_converted(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    torch.testing.assert_close(read_image(tmp_path / "a.jpg"), red, atol=0.03, rtol=0)


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    red, blue = Image.new("RGB", (4, 3), "red"), Image.new("RGB", (4, 3), "blue")
    for name in ("a.gif", "a.png"):
        red.save(tmp_path / name, save_all=True, append_images=[blue])
        assert torch.equal(read_image(tmp_path / name)[0, :, 0, 0], torch.tensor([1.0, 0, 0]))


# Files that are no pictures


def test_what_is_not_a_readable_picture_is_an_error_that_says_which_and_why(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello", encoding="utf-8")
    whole = save(tmp_path / "whole.png", colors(64, 64)).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    reasons = {
        "missing.png": "does not exist",
        "": "is a folder",
        "empty.png": r"is empty \(0 bytes\)",
        "text.png": "is not a picture that Pillow can read",
        "half.png": "may be damaged or cut short",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageFileError, match=reason) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    assert issubclass(ImageFileError, ValueError)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_or_device_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", os.devnull):
        with pytest.raises(ImageFileError, match=f"{path} is a pipe or device.*save the picture to a file first"):
            read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "bmp", "webp"])
def test_a_damaged_picture_is_read_or_refused_but_never_another_error(tmp_path, suffix):
    whole = save(tmp_path / f"whole.{suffix}", colors(16, 16)).read_bytes()
    rng = np.random.default_rng(0)
    for i in range(40):
        damaged = bytearray(whole[: rng.integers(1, len(whole))] if i % 2 else whole)
        for position in rng.integers(0, len(damaged), 4):
            damaged[position] = rng.integers(0, 256)
        path = tmp_path / f"damaged.{suffix}"
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata
            try:
                image = read_image(path)
            except ImageFileError:
                continue
        assert image.min() >= 0
        assert image.max() <= 1


@pytest.mark.parametrize(
    "error",
    [OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error, TypeError, AttributeError, IndexError]
    + [ZeroDivisionError],
)
def test_whatever_a_decoder_raises_becomes_an_image_file_error_that_keeps_its_reason(tmp_path, monkeypatch, error):
    def fail(_image, **_options):
        raise error("bad tile 7")

    monkeypatch.setattr(files, "pixels_of", fail)
    with pytest.raises(ImageFileError, match="bad tile 7.*Copy or download it again"):
        read_image(save(tmp_path / "a.bmp", colors()))


def test_a_script_under_a_pictures_name_starts_no_interpreter(tmp_path, monkeypatch):
    """Pillow goes by the content, and hands PostScript to Ghostscript."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_args: pytest.fail("Ghostscript was called"))
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    (tmp_path / "a.jpg").write_bytes(script)
    with Image.open(tmp_path / "a.jpg") as opened:
        assert opened.format == "EPS"
    with pytest.raises(ImageFileError, match="a.jpg is not a picture"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="a.jpg cannot be read as a picture"):
        read_rgb(tmp_path / "a.jpg")


def test_more_than_16384_pixels_a_side_are_refused_before_decoding(tmp_path):
    for width, height in ((16385, 1), (1, 16385), (60000, 60000)):
        with pytest.raises(ImageFileError, match="at most 16384 a side"):
            read_image(png_header(tmp_path / "a.png", width, height))


def test_16384_by_16384_pixels_pass_the_size_check_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageFileError, match="cut short"):  # so it came as far as decoding
            read_image(png_header(tmp_path / "a.png", 16384, 16384))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "webp"])
@pytest.mark.parametrize("limit", [4, 40])  # of 54 pixels Pillow would refuse, or warn of, each
def test_the_limit_of_pillow_is_neither_used_nor_changed(tmp_path, monkeypatch, suffix, limit):
    path = save(tmp_path / f"a.{suffix}", colors())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).shape == (1, 3, 6, 9)
        with pytest.raises(ImageFileError, match="at most 16384 a side"):
            read_image(png_header(tmp_path / "b.png", 16385, 16385))
    assert Image.MAX_IMAGE_PIXELS == limit
