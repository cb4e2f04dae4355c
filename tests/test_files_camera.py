"""The field of view that a photograph's EXIF tells."""

import math
import struct

import pytest
import torch
from PIL import Image

from depthfm_core.depth import files
from depthfm_core.depth.files import read_image, read_photo

EXIF_IFD, FILM_FOCAL, ORIENTATION = 0x8769, 0xA405, 0x0112


def photo(folder, film_focal, size=(36, 24), orientation=1, suffix="jpg"):
    """A picture whose EXIF tells this focal length on 35 mm film."""
    written, exif = Image.Exif(), Image.Exif()
    written[ORIENTATION] = orientation
    written[EXIF_IFD] = {FILM_FOCAL: film_focal}
    exif.load(written.tobytes())  # without which a TIFF does not get the directory
    path = folder / f"{film_focal}.{suffix}"
    Image.new("RGB", size).save(path, exif=exif)
    return path


def across(width_mm, focal_mm):
    return math.degrees(2 * math.atan(width_mm / 2 / focal_mm))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize(
    ("focal", "size", "orientation", "fov_deg"),
    [
        (18, (36, 24), 1, 90),
        (50, (36, 24), 1, across(36, 50)),
        (50, (24, 36), 1, across(24, 50)),
        (50, (36, 24), 3, across(36, 50)),
        (50, (36, 24), 6, across(24, 50)),
        (50, (24, 36), 8, across(36, 50)),
        (26, (40, 30), 1, across(0.8 * 43.267, 26)),
        (26, (40, 30), 6, across(0.6 * 43.267, 26)),
    ],
)
def test_the_diagonal_sees_what_it_would_on_film(tmp_path, focal, size, orientation, fov_deg, suffix):
    image, told_deg = read_photo(photo(tmp_path, focal, size, orientation, suffix))
    assert told_deg == pytest.approx(fov_deg, abs=0.01)
    assert image.shape[2:] == (size if orientation in (6, 8) else size[::-1])


@pytest.mark.parametrize("focal", [0, 1, 65535])
def test_an_unknown_focal_length_or_no_lenss_counts_as_none(tmp_path, focal):
    assert read_photo(photo(tmp_path, focal))[1] is None


@pytest.mark.parametrize("exif", [None, "empty", "camera"])
def test_a_picture_whose_exif_has_no_focal_length_tells_none(tmp_path, exif):
    written = Image.Exif()
    if exif == "camera":
        written[EXIF_IFD] = {0x920A: 4.5}  # FocalLength: that of a lens before a sensor of unknown size
    Image.new("RGB", (3, 2)).save(tmp_path / "a.jpg", **({} if exif is None else {"exif": written}))
    assert read_photo(tmp_path / "a.jpg")[1] is None


def film_focal(kind, count, value):
    """EXIF as a file holds it, with the tag in any type of TIFF 6.0."""
    head = b"Exif\0\0II*\0" + struct.pack("<I", 8)
    directory = struct.pack("<HHHIII", 1, EXIF_IFD, 4, 1, 26, 0)
    return head + directory + struct.pack("<HHHI4sI", 1, FILM_FOCAL, kind, count, value, 0)


def test_a_number_of_another_type_than_the_standards_counts(tmp_path):
    short, long, real, text = (
        (3, 1, b"\x12\0\0\0"),
        (4, 1, b"\x12\0\0\0"),
        (11, 1, struct.pack("<f", 18)),
        (2, 3, b"18\0\0"),
    )
    for number in (short, long, real, text):
        Image.new("RGB", (36, 24)).save(tmp_path / "a.jpg", exif=film_focal(*number))
        assert read_photo(tmp_path / "a.jpg")[1] == pytest.approx(90), number


BROKEN = {
    "two numbers": film_focal(3, 2, b"\x12\0\x12\0"),
    "letters": film_focal(2, 3, b"mm\0\0"),
    "a NaN": film_focal(11, 1, struct.pack("<f", math.nan)),
    "a ratio with nothing below": film_focal(5, 1, struct.pack("<I", 0)) + bytes(8),
    "a value outside of the block": film_focal(3, 9, b"\xff\xff\xff\xff"),
    "an unknown type": film_focal(99, 1, b"\x12\0\0\0"),
    "a directory outside of the block": film_focal(3, 1, b"\x12\0\0\0")[:32],
    "a directory at a text": b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, EXIF_IFD, 2, 4, b"abc\0", 0),
    "zeros": b"Exif\0\0" + bytes(20),
    "noise": b"Exif\0\0" + bytes(range(200)),
}


@pytest.mark.filterwarnings(
    "ignore:Corrupt EXIF", "ignore:.*Skipping tag", "ignore:Truncated"
)  # Pillow's, of damaged EXIF
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("exif", BROKEN.values(), ids=BROKEN)
def test_broken_exif_tells_none_and_keeps_no_picture_from_being_read(tmp_path, exif, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (3, 2), "white").save(path, exif=exif)
    image, fov_deg = read_photo(path)
    assert fov_deg is None and image.shape == (1, 3, 2, 3) and image.min() == 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:.*Skipping tag", "ignore:Truncated")
def test_exif_cut_anywhere_or_with_any_byte_damaged_is_no_error(tmp_path):
    whole = film_focal(3, 1, b"\x12\0\0\0")
    damaged = [whole[:length] for length in range(6, len(whole))]
    damaged += [whole[:at] + b"\xff" + whole[at + 1 :] for at in range(6, len(whole))]
    for exif in damaged:
        Image.new("RGB", (3, 2)).save(tmp_path / "a.jpg", exif=exif)
        image, fov_deg = read_photo(tmp_path / "a.jpg")
        assert image.shape == (1, 3, 2, 3) and (fov_deg is None or 0 < fov_deg < 180)


def test_the_picture_is_that_of_read_image_and_its_file_is_opened_once(tmp_path, monkeypatch):
    path, opened = photo(tmp_path, 50), []
    open_picture = files.open_picture
    monkeypatch.setattr(files, "open_picture", lambda path: opened.append(path) or open_picture(path))
    image, _ = read_photo(path)
    assert opened == [path] and torch.equal(image, read_image(path))
