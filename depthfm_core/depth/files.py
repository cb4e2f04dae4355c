"""Pictures from disk (`picture_decoding` has what Pillow leaves open) and depth to disk.

Every writer writes beside its target and renames at the end, so that an interrupted run never leaves half a file
under the name that the next step reads.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from einops import rearrange, repeat
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..replacing import replacing_output
from ..resize import MAX_SIDE_PX
from .picture_decoding import DECODER_ERRORS, film_focal_of, open_picture, pixels_of, turn_of, without_pillow_limit
from .points import fov_from_film_focal

# At Pillow's own level a picture of 12 megapixels is longer with zlib than with nano; at these, less than half as long.
# In 8-bit colors runs alone come out about as small as all repetitions do; in 16-bit gray they do not.
_PNG16_COMPRESSION = {"compress_level": 4}
_PNG_COMPRESSION = {"compress_type": zlib.Z_RLE}


class ImageFileError(ValueError):
    """A file that cannot be read as a picture: which one, what is wrong, what to do."""


def read_image(path: str | Path) -> Tensor:
    """The picture in a file, upright, as RGB: [1, 3, H, W] in [0, 1].

    EXIF rotation is applied; of an animation, the first frame is read; gray becomes three equal channels;
    color profiles are not applied. Transparency is composited over white. Of integer pictures the full
    range becomes [0, 1]: 16-bit gray keeps its precision, 16-bit RGB is read with 8 bits (Pillow has no
    more). A float TIFF must already lie in [0, 1].

    Raises:
        ImageFileError: no such file, a folder, a pipe, an empty or broken file, not a picture, a side of more than
            16384 px, or pixel values outside of the ranges above.
    """
    return read_photo(path)[0]


def read_photo(path: str | Path) -> tuple[Tensor, float | None]:
    """The picture as `read_image` gives it, and its horizontal field of view in degrees as its EXIF tells it, or None.

    That of a picture that was cropped or stitched after it was taken is another than what its EXIF still tells.

    Raises:
        ImageFileError: as `read_image`; damaged EXIF is none.
    """
    path = Path(path)
    _check_readable(path)
    try:
        with without_pillow_limit(), open_picture(path) as image:
            _check_size(path, image.size)
            image.load()  # which turns a TIFF by itself, and its tag with it
            turn = turn_of(image)
            film_focal_mm = film_focal_of(image)
            pixels = pixels_of(image if turn is None else image.transpose(turn))  # [H, W, 3] or [H, W]
    except UnidentifiedImageError as error:
        raise ImageFileError(
            f"{path} is not a picture that Pillow can read; save it as PNG or JPEG and try again."
        ) from error
    except ImageFileError:
        raise
    except DECODER_ERRORS as error:
        raise ImageFileError(
            f"{path} cannot be read as a picture ({error}); it may be damaged or cut short. "
            "Copy or download it again, or save it as PNG."
        ) from error
    height, width = pixels.shape[:2]
    fov_deg = None if film_focal_mm is None else fov_from_film_focal(film_focal_mm, width, height)
    return _to_image(path, pixels), fov_deg


def write_png16(path: str | Path, depth: Tensor | np.ndarray, metadata: Mapping[str, str] | None = None) -> None:
    """Write [H, W] in [0, 1] as a 16-bit gray PNG: 0 becomes 0, 1 becomes 65535.

    Args:
        path: the file, which ends in .png; its folder must exist.
        depth: [H, W] in [0, 1].
        metadata: what the PNG's text chunks say, by their names.

    Raises:
        ValueError: another ending or shape, or values outside of [0, 1].
        OutputError: the file cannot be written; nothing is left behind.
    """
    check_ending(path, ".png")
    values = np.rint(_unit_range(_as_array(depth, ("H", "W"))) * 65535).astype(np.uint16)
    texts = PngInfo()
    for name, text in (metadata or {}).items():
        texts.add_text(name, text)
    with replacing_output(path) as temporary:
        Image.fromarray(values).save(temporary, format="PNG", pnginfo=texts, **_PNG16_COMPRESSION)


def write_png(path: str | Path, image: Tensor | np.ndarray) -> None:
    """Write [3, H, W] in [0, 1] as an 8-bit RGB PNG. Errors: `write_png16`."""
    check_ending(path, ".png")
    values = np.rint(_unit_range(_as_array(image, (3, "H", "W"))) * 255).astype(np.uint8)
    with replacing_output(path) as temporary:
        Image.fromarray(rearrange(values, "c h w -> h w c")).save(temporary, format="PNG", **_PNG_COMPRESSION)


def write_npy(path: str | Path, array: Tensor | np.ndarray) -> None:
    """Write an array or tensor of any shape and dtype as it is, for `numpy.load`; bfloat16 (not NumPy's) as float32.

    Errors: `write_png16`.
    """
    check_ending(path, ".npy")
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.dtype == torch.bfloat16 else array).numpy()
    with replacing_output(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.asarray(array, order="C"), allow_pickle=False)


def write_tiff(path: str | Path, depth: Tensor | np.ndarray) -> None:
    """Write [H, W] of any finite values as a float32 TIFF. Errors: `write_png16`."""
    check_ending(path, ".tiff", ".tif")
    values = _as_array(depth, ("H", "W"))
    with replacing_output(path) as temporary:
        Image.fromarray(values).save(temporary, format="TIFF")


def write_exr(path: str | Path, depth: Tensor | np.ndarray, metadata: Mapping[str, str] | None = None) -> None:
    """Write [H, W] of any finite values as a float32 OpenEXR file with the one channel Y.

    Y and not Z, because image viewers, Blender and OpenCV show Y as gray and skip Z.

    Args:
        path: the file, which ends in .exr; its folder must exist.
        depth: [H, W], finite.
        metadata: string attributes, by names that OpenEXR does not use itself.

    Raises:
        ValueError: the package OpenEXR is missing or too old, or as in `write_png16`.
    """
    check_ending(path, ".exr")
    OpenEXR = import_openexr()
    values = _as_array(depth, ("H", "W"))
    header = {**(metadata or {}), "compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with replacing_output(path) as temporary, OpenEXR.File(header, {"Y": values}) as file:
        file.write(os.fsencode(temporary))  # bytes, as OpenEXR takes no str that is not valid UTF-8


def check_ending(path: str | Path, *endings: str) -> None:
    """Raises ValueError unless a name ends in one of these, large or small: programs take a file for what it says."""
    if Path(path).suffix.lower() not in endings:
        raise ValueError(f"{path} must end in {' or '.join(endings)}, which is what is written.")


def import_openexr() -> ModuleType:
    """The optional package that writes EXR; a ValueError says how to get it where it is missing or too old."""
    try:
        import OpenEXR
    except ImportError:
        OpenEXR = None
    if not hasattr(OpenEXR, "File"):  # which came with 3.3
        raise ValueError(
            "Writing EXR needs the package OpenEXR, 3.3 or newer; install it with `pip install -U OpenEXR`, "
            "or choose NPY, which holds the same float32 values."
        )
    return OpenEXR


def _check_readable(path: Path) -> None:
    if path.is_dir():
        raise ImageFileError(f"{path} is a folder, not a picture; give the path of one file in it.")
    if not path.exists():
        raise ImageFileError(f"{path} does not exist; check the spelling and the current folder.")
    if not path.is_file():
        raise ImageFileError(f"{path} is a pipe or device, not a file; save the picture to a file first.")
    if path.stat().st_size == 0:
        raise ImageFileError(f"{path} is empty (0 bytes); copy or download it again.")


def _check_size(path: Path, size: tuple[int, int]) -> None:
    if max(size) > MAX_SIDE_PX:
        raise ImageFileError(
            f"{path} is {size[0]} x {size[1]} pixels; at most {MAX_SIDE_PX} a side are read. Scale it down."
        )


def _to_image(path: Path, pixels: np.ndarray) -> Tensor:
    """uint8 [H, W, 3], or [H, W] 16-bit or float -> [1, 3, H, W] float32 in [0, 1]."""
    if pixels.dtype == np.uint8:
        return rearrange(torch.from_numpy(pixels), "h w c -> 1 c h w").float().div_(255)
    highest = 1 if pixels.dtype.kind == "f" else 65535
    if not (pixels.min() >= 0 and pixels.max() <= highest):  # so spelled, NaN fails too
        raise ImageFileError(
            f"{path} holds values from {pixels.min()} to {pixels.max()}; accepted are 0 to 65535 for "
            "integers and 0 to 1 for floats. Scale it to one of these, or save it with 8 or 16 bits."
        )
    gray = torch.from_numpy(pixels.astype(np.float32)).div_(highest)
    return repeat(gray, "h w -> 1 c h w", c=3).contiguous()


def _as_array(values: Tensor | np.ndarray, shape: tuple[str | int, ...]) -> np.ndarray:
    """float32 array, checked for its shape (a letter is any length) and for finite values."""
    if isinstance(values, np.ndarray):
        values = np.ascontiguousarray(values)  # PyTorch refuses negative strides
    array = torch.as_tensor(values).detach().cpu().float().numpy()
    fits = array.ndim == len(shape) and all(
        have > 0 and want in (have, "H", "W") for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"This format stores [{', '.join(map(str, shape))}], but {list(array.shape)} came; "
            "write one image of a batch at a time."
        )
    if not np.isfinite(array).all():
        raise ValueError("The values to write hold NaN or infinity; replace them first.")
    return np.ascontiguousarray(array)


def _unit_range(array: np.ndarray) -> np.ndarray:
    if array.min() < 0 or array.max() > 1:
        raise ValueError(
            f"PNG stores [0, 1], but the values go from {array.min():.4g} to {array.max():.4g}; "
            "scale them first, or write TIFF, EXR or NPY."
        )
    return array
