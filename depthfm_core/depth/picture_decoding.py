"""What Pillow leaves open: which files it may decode, of what size, how they were taken and what their numbers mean.

Transparent pixels are shown over white, because the colors stored below them are often garbage and white is what
viewers show.
"""

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

# What Pillow's decoders raise for damaged files and odd tags: most were seen, some Pillow itself expects.
DECODER_ERRORS = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error)
DECODER_ERRORS += (TypeError, AttributeError, LookupError, ArithmeticError)
# Formats that Pillow recognizes and does not decode by itself: for EPS it would start Ghostscript, a whole interpreter.
NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
_PILLOW_LIMIT_LOCK = threading.Lock()
_BITS_PER_SAMPLE, _PHOTOMETRIC = 0x0102, 0x0106  # a TIFF's tags
_WHITE_IS_ZERO = 0
_ORIENTATION = 0x0112  # EXIF's tag; its values 2 to 8 say how to turn the picture
_EXIF_IFD, _FILM_FOCAL = 0x8769, 0xA405  # EXIF's directory of the camera's settings; FocalLengthIn35mmFilm in it
_FILM_FOCALS_MM = (5, 5000)  # within which lenses lie that draw straight lines straight, with room to spare
_TURNS = dict(
    enumerate(
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        start=2,
    )
)


def open_picture(path: Path) -> Image.Image:
    """Pillow's `Image.open`, whatever the file's name, for formats that Pillow itself decodes.

    Raises:
        UnidentifiedImageError: for any other file.
    """
    image = Image.open(path)
    if image.format in NOT_DECODED:
        image.close()
        raise UnidentifiedImageError(f"{image.format} is no format of pictures that is read.")
    return image


@contextmanager
def without_pillow_limit() -> Iterator[None]:
    """Within it Pillow takes any size, where it warns from 89 and refuses from 179 megapixels otherwise.

    The limit is a global of Pillow, so one thread at a time, opening and decoding: decoders look at it too.
    """
    with _PILLOW_LIMIT_LOCK:
        previous, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = previous


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """How EXIF says to turn a picture; not at all where its EXIF is damaged, which the pixels are not.

    Pillow's `exif_transpose` writes all tags anew, and fails at those of another type than the standard's.
    """
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION))
    except DECODER_ERRORS:
        return None


def film_focal_of(image: Image.Image) -> float | None:
    """Focal length in mm of the lens that would take the same picture on 35 mm film, where EXIF tells one.

    None where it has none, 0 (the standard's "unknown") or what is no lens's, and where the EXIF is damaged.
    """
    try:
        focal_mm = float(image.getexif().get_ifd(_EXIF_IFD).get(_FILM_FOCAL, 0))
    except DECODER_ERRORS:
        return None
    shortest, longest = _FILM_FOCALS_MM
    return focal_mm if shortest <= focal_mm <= longest else None


def pixels_of(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3], or [H, W] for the modes of more than 8 bits (I;16*, I, F)."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _gray_pixels(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _gray_pixels(image: Image.Image) -> np.ndarray:
    """[H, W], of integers the whole range to 65535, with white where a PNG's one transparent value is."""
    pixels = np.array(image)
    if "transparency" in image.info:
        pixels[pixels == image.info["transparency"]] = 65535
    if isinstance(image, TiffImageFile) and pixels.dtype.kind == "u":  # of which Pillow gives the numbers as they are
        if image.tag_v2.get(_BITS_PER_SAMPLE) == (12,):
            pixels = np.rint(pixels * (65535 / 4095)).astype(np.uint16)
        if image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            pixels = 65535 - pixels
    return pixels
