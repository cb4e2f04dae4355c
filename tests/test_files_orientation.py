"""Pictures that were taken with the camera turned: read upright by their EXIF tag."""

import struct

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from depthfm_core.depth.files import read_image

from .test_files import as_image, colors, save


def turned(upright, orientation):
    """The pixels that a camera stores for an upright picture with this EXIF orientation (tag 274)."""
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }
    return np.ascontiguousarray(stored[orientation](upright))


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}], ids=["plain", "lzw"])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_read_upright(tmp_path, orientation, suffix, options):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = options if suffix == "tif" else {"lossless": True}
    path = save(tmp_path / f"a.{suffix}", turned(colors(), orientation), exif=exif, **options)
    torch.testing.assert_close(read_image(path), as_image(colors()), atol=1e-7, rtol=0)


# (tag, type, count, value) as in TIFF 6.0; none has the type that the standard gives its tag.
STRANGE_TAGS = {
    "XResolution as text": (0x011A, 2, 3, b"72\0\0"),
    "Make as a number": (0x010F, 3, 1, b"\x07\0\0\0"),
    "BitsPerSample as a byte": (0x0102, 1, 1, b"\x08\0\0\0"),
    "a negative ImageWidth": (0x0100, 9, 1, b"\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("tag", STRANGE_TAGS.values(), ids=STRANGE_TAGS)
def test_a_tag_of_another_type_than_the_standards_keeps_no_picture_from_being_read(tmp_path, tag):
    entries = sorted([(ExifTags.Base.Orientation, 3, 1, b"\x06\0\0\0"), tag])
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory + bytes(4)
    path = save(tmp_path / "a.png", turned(colors(), 6), exif=exif)
    torch.testing.assert_close(read_image(path), as_image(colors()), atol=1e-7, rtol=0)


@pytest.mark.parametrize("damaged", [b"Exif\0\0" + bytes(20), b"Exif\0\0II*\0\x08\0\0\0\xff"])
def test_a_damaged_exif_block_keeps_no_picture_from_being_read(tmp_path, damaged):
    path = save(tmp_path / "a.png", colors(), exif=damaged)
    torch.testing.assert_close(read_image(path), as_image(colors()), atol=1e-7, rtol=0)


def test_exif_rotation_applies_to_16_bit_gray(tmp_path):
    gray = np.arange(6, dtype=np.uint16).reshape(2, 3) * 10000
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = read_image(save(tmp_path / "a.png", turned(gray, 6), exif=exif))
    assert image.shape == (1, 3, 2, 3)
    torch.testing.assert_close(image[0, 0], torch.from_numpy(gray / 65535).float(), atol=1e-6, rtol=0)
