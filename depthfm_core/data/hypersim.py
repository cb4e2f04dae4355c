"""Hypersim: 77,400 rendered pictures of 461 indoor scenes, 768 x 1024, with depth.

Two layouts: the original download (HDF5 files of linear light and of distance), and what Marigold's preprocessing makes
of it (8-bit and 16-bit PNG files). The original holds the Euclidean distance to the optical centre, which becomes
planar depth here with the one focal length that everybody uses, although the true cameras vary. Depth counts between
1e-5 m and 65 m, both excluded.

In the processed form depth ends at 65.535 m. A writer that cuts there leaves 65535, which is out of range; Marigold's
script lets depth beyond it wrap around to small values, which no reader can tell from true ones. The original form has
no such limit.

Source: Roberts et al. 2021, https://github.com/apple/ml-hypersim (focal length: issue 9; tone mapping:
`scene_generate_images_tonemap.py`); processed form and range: Marigold, `dataset_preprocess/hypersim`.
"""

import csv
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..optional import import_optional
from .entries import Entry, nothing_found, read_split, require_folder
from .rasters import between, check_sizes, make_sample, read_png_m, read_rgb
from .sample import DepthSample

NAME = "hypersim"
MIN_DEPTH_M, MAX_DEPTH_M = 1e-5, 65.0
SPLITS = ("train", "val", "test")
CSV_NAME = "metadata_images_split_scene_v1.csv"
CSV_SOURCE = "evermotion_dataset/analysis/" + CSV_NAME + " in the repository apple/ml-hypersim"
EXAMPLE = "ai_001_001/rgb_cam_00_fr0000.png ai_001_001/depth_plane_cam_00_fr0000.png"
FOCAL_PX = 886.81  # at a width of 1024 pixels
_GAMMA = 2.2
_BRIGHT_PERCENTILE, _BRIGHT_VALUE = 90, 0.8  # so many percent of the pixels come out darker than this
_DARKEST = 1e-4  # a picture whose bright pixels are darker than this in linear light comes out black
_LUMA = np.array([0.3, 0.59, 0.11], dtype=np.float32)
_NO_ENTITY = -1


class _Frame(NamedTuple):
    scene: str
    camera: str
    number: int


def list_entries(root: Path, split: str = "train", listed: Path | None = None) -> list[Entry]:
    """The frames of a split, in the order of their list.

    Args:
        root: the folder of the scenes (`ai_001_001/images/...`, the original download), or of processed scenes
            (`ai_001_001/rgb_cam_00_fr0000.png`), which may also lie in folders `train`, `val` and `test`.
        split: one of `SPLITS`; `metadata_images_split_scene_v1.csv` in `root` says which public frames it has. Without
            that file, all processed frames in the split's folder.
        listed: a list of frames in place of that, such as Marigold's filtered lists; serves both layouts.

    Raises:
        ValueError: an unknown split, files or lists that are missing or of another form.
    """
    root = require_folder(root, "Hypersim")
    if split not in SPLITS:
        raise ValueError(f"Unknown Hypersim split {split!r}; choose one of {', '.join(SPLITS)}.")
    frames = _frames(root, split, listed)
    return [_entry(root, split, frame) for frame in frames]


def read(entry: Entry) -> DepthSample:
    """One frame; `valid` where depth is known and in range.

    Raises:
        ValueError: a file that cannot be read, the package h5py missing, or files of different sizes.
    """
    depth_m, measured = _read_depth(entry)
    if _is_processed(entry):
        image = read_rgb(entry.image)
    else:
        radiance = _read_hdf5(entry.image)
        check_sizes(torch.from_numpy(radiance).movedim(-1, 0), depth_m, entry.image)
        image = tone_map(radiance, measured.numpy()[0])
    valid = between(depth_m, MIN_DEPTH_M, MAX_DEPTH_M) & measured
    return make_sample(image, depth_m.where(measured, 0.0), valid, entry.image)


def is_complete(entry: Entry) -> bool:
    """Whether every pixel has a depth, however far: the filter of Lotus, which keeps about 39,000 frames.

    Errors: `read`.
    """
    return bool(_read_depth(entry)[1].all())


def planar_depth_m(distance_m: np.ndarray) -> np.ndarray:
    """Depth along the optical axis from the distance to the optical centre, [H, W] float32 both.

    A pixel is seen at (x, y, focal length) from the centre, x and y measured from the middle of the picture to the
    middle of the pixel. The focal length scales with the width.

    Source: https://github.com/apple/ml-hypersim/issues/9.
    """
    height, width = distance_m.shape
    focal_px = FOCAL_PX * width / 1024
    y = np.linspace(-height / 2 + 0.5, height / 2 - 0.5, height)[:, None]
    x = np.linspace(-width / 2 + 0.5, width / 2 - 0.5, width)[None]
    return (distance_m * (focal_px / np.sqrt(x**2 + y**2 + focal_px**2))).astype(np.float32)


def tone_map(radiance: np.ndarray, measured: np.ndarray) -> Tensor:
    """A picture from linear light: scaled, raised to 1/2.2 and cut to [0, 1].

    The scale makes the 90th percentile of brightness 0.8 in the picture; a picture that is black there stays black.

    Args:
        radiance: [H, W, 3] float, about >= 0; NaN becomes black.
        measured: [H, W] bool, the pixels that brightness is taken over; without any, light is not scaled.

    Returns:
        [3, H, W] float32 in [0, 1].

    Source: `scene_generate_images_tonemap.py` in apple/ml-hypersim.
    """
    radiance = np.nan_to_num(radiance.astype(np.float32), nan=0.0)
    brightness = (radiance @ _LUMA)[measured]
    scale = 1.0
    if brightness.size:
        bright = float(np.percentile(brightness, _BRIGHT_PERCENTILE))
        scale = _BRIGHT_VALUE**_GAMMA / bright if bright >= _DARKEST else 0.0
    image = (np.maximum(scale * radiance, 0) ** (1 / _GAMMA)).clip(0, 1)
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1).contiguous()


def _frames(root: Path, split: str, listed: Path | None) -> list[_Frame]:
    if listed is not None:
        return [_parse(line[0], listed) for line in read_split(listed)]
    if (root / CSV_NAME).is_file():
        return _csv_frames(root / CSV_NAME, split)
    pictures = sorted((root / split).glob("ai_*/rgb_*.png"))
    if pictures:
        return [_parse(f"{picture.parent.name}/{picture.name}", root / split) for picture in pictures]
    if not any(root.glob("ai_*")):
        raise nothing_found(root, "Hypersim", ("ai_*", f"{split}/ai_*/rgb_*.png"))
    raise ValueError(f"{root} holds scenes of Hypersim, but no list of its splits; put {CSV_SOURCE} into it.")


def _parse(name: str, source: Path) -> _Frame:
    match = re.fullmatch(r"(?:.*/)?(ai_\d+_\d+)/rgb_(cam_\d+)_fr(\d+)\.png", name)
    if match is None:
        raise ValueError(f"{name!r} in {source} is no frame of Hypersim; a line of its lists is {EXAMPLE!r}.")
    return _Frame(match[1], match[2], int(match[3]))


def _csv_frames(path: Path, split: str) -> list[_Frame]:
    """The rows of a split that were released; some frames were rendered and taken back for their content."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        try:
            frames = [
                _Frame(row["scene_name"], row["camera_name"], int(row["frame_id"]))
                for row in rows
                if row["included_in_public_release"] == "True" and row["split_partition_name"] == split
            ]
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is not Hypersim's list of splits ({error}); take {CSV_SOURCE}.") from error
    if not frames:
        raise ValueError(f"{path} names no frame of the split {split}; take {CSV_SOURCE}.")
    return frames


def _entry(root: Path, split: str, frame: _Frame) -> Entry:
    """The frame's files, in whichever layout they lie."""
    scene, camera, number = frame
    name = f"{scene}/{camera}/{number:04d}"
    raw, stem = root / scene / "images", f"frame.{number:04d}"
    geometry = raw / f"scene_{camera}_geometry_hdf5"
    pairs = [(raw / f"scene_{camera}_final_hdf5" / f"{stem}.color.hdf5", geometry / f"{stem}.depth_meters.hdf5")]
    pairs += [
        (folder / f"rgb_{camera}_fr{number:04d}.png", folder / f"depth_plane_{camera}_fr{number:04d}.png")
        for folder in (root / split / scene, root / scene)
    ]
    for image, depth in pairs:
        if image.is_file() and depth.is_file():
            return Entry(name, image, depth, {"entities": geometry / f"{stem}.render_entity_id.hdf5"})
    places = "; ".join(f"{image} with {depth}" for image, depth in pairs)
    raise ValueError(f"Hypersim's {name} is missing; looked for {places}. Download it, or train on a list without it.")


def _is_processed(entry: Entry) -> bool:
    return entry.image.suffix == ".png"


def _read_depth(entry: Entry) -> tuple[Tensor, Tensor]:
    """Planar depth in metres and where it is known, [1, H, W] each.

    What the renderer hit is told by its map of entities; where that was not downloaded, by distances that are numbers.
    """
    if _is_processed(entry):
        depth_m = read_png_m(entry.depth, 1000)
        return depth_m, depth_m > 0
    distance_m = _read_hdf5(entry.depth).astype(np.float32)
    measured = np.isfinite(distance_m)
    if entry.extra["entities"].is_file():
        entities = _read_hdf5(entry.extra["entities"])
        check_sizes(torch.from_numpy(entities)[None], torch.from_numpy(distance_m)[None], entry.extra["entities"])
        measured &= entities != _NO_ENTITY
    return torch.from_numpy(planar_depth_m(distance_m))[None], torch.from_numpy(measured)[None]


def _read_hdf5(path: Path) -> np.ndarray:
    h5py = import_optional("h5py", f"Reading {path}", '`pip install -e ".[train]"`.')
    try:
        with h5py.File(path) as file:
            return file["dataset"][()]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as one of Hypersim's files ({error}); download it again.") from error
