"""KITTI's Eigen test split: 697 street scenes listed, 652 with the annotated (dense) LiDAR depth.

Two layouts: Marigold's archive (`kitti_eigen_split_test.tar`: days and drives in one folder), and the original
downloads (raw drives, and `data_depth_annotated` with `train` and `val`, over both of which the split is spread). The
picture and the depth map are first cropped to the KITTI benchmark's 352 x 1216 (the lowest rows, the middle columns);
Eigen's or Garg's mask is then a part of the cropped map. Marigold's protocol names Eigen's. Depth counts between
1e-5 m and 80 m, both excluded.

Source: Uhrig et al. 2017, https://www.cvlibs.net/datasets/kitti/eval_depth_all.php; crops and masks: Marigold,
`src/dataset/kitti_dataset.py`.
"""

from pathlib import Path

from torch import Tensor

from .entries import Entry, fields_of, first_existing, list_needed, nothing_found, read_split, require_folder
from .rasters import between, check_sizes, make_sample, read_png_m, read_rgb, rectangle
from .sample import DepthSample

NAME = "kitti"
MIN_DEPTH_M, MAX_DEPTH_M = 1e-5, 80.0
SPLIT_SOURCE = "data_split/kitti_depth/eigen_test_files_with_gt.txt in the repository prs-eth/Marigold"
EXAMPLE = (
    "2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png "
    "2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000069.png 721.5377"
)
# Name -> (first row, end row, first column, end column) as shares of the cropped map; None is the whole map.
MASKS: dict[str, tuple[float, float, float, float] | None] = {
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "none": None,
}
DEFAULT_MASK = "eigen"
_CROP_HEIGHT, _CROP_WIDTH = 352, 1216
_IMAGE_FOLDERS = (".", "raw")
_DEPTH_FOLDERS = (".", "train", "val", "data_depth_annotated/train", "data_depth_annotated/val")
_GROUND_TRUTH = "proj_depth/groundtruth/image_02"


def list_entries(root: Path, split: Path | None = None) -> list[Entry]:
    """The images that have a depth map, in the list's order, or by name without a list.

    Args:
        root: the folder into which the archive was extracted; or one with the raw days (or `raw`) and
            `data_depth_annotated` (or its `train` and `val`) in it.
        split: Marigold's list, of picture, depth map and focal length; lines whose depth map is "None" are left out.
            Needed for the original downloads, which hold all of KITTI.

    Raises:
        ValueError: files or the list are missing or of another form.
    """
    root = require_folder(root, "KITTI")
    if split is None:
        return _archive_entries(root)
    lines = [(fields_of(line, 2, split, EXAMPLE), line) for line in read_split(split)]
    return [_listed_entry(root, image, depth, line, split) for (image, depth), line in lines if depth != "None"]


def read(entry: Entry, mask: str = DEFAULT_MASK) -> DepthSample:
    """One image, 352 x 1216; `valid` is the protocol's mask.

    Args:
        entry: as `list_entries` gives it.
        mask: a key of `MASKS`.

    Raises:
        ValueError: an unknown mask, a file that cannot be read, files of different sizes, or a picture smaller than
            the crop.
    """
    if mask not in MASKS:
        raise ValueError(f"Unknown KITTI mask {mask!r}; choose one of {', '.join(MASKS)}.")
    image, depth_m = read_rgb(entry.image), read_png_m(entry.depth, 256)
    check_sizes(image, depth_m, entry.image)
    image, depth_m = benchmark_crop(image, entry.image), benchmark_crop(depth_m, entry.depth)
    valid = between(depth_m, MIN_DEPTH_M, MAX_DEPTH_M) & _inside(depth_m, mask)
    return make_sample(image, depth_m, valid, entry.image)


def _listed_entry(root: Path, image: str, depth: str, line: list[str], split: Path) -> Entry:
    image_path = first_existing((root / folder / image for folder in _IMAGE_FOLDERS), "KITTI")
    depth_path = first_existing((root / folder / depth for folder in _DEPTH_FOLDERS), "KITTI")
    extra = {"focal_px": _focal_px(line[2], split)} if len(line) > 2 else {}
    return Entry(_name(image), image_path, depth_path, extra)


def _archive_entries(root: Path) -> list[Entry]:
    if any((root / folder).is_dir() for folder in _DEPTH_FOLDERS[1:]):
        raise list_needed(root, "KITTI", "the folder holds the annotated depth of more than the split", SPLIT_SOURCE)
    depths = sorted(root.glob(f"*_sync/{_GROUND_TRUTH}/*.png"))
    if not depths:
        raise nothing_found(root, "KITTI", (f"DRIVE_sync/{_GROUND_TRUTH}/*.png",))
    return [_archive_entry(root, depth) for depth in depths]


def _archive_entry(root: Path, depth: Path) -> Entry:
    drive = depth.relative_to(root).parts[0]
    image = f"{drive[:10]}/{drive}/image_02/data/{depth.name}"  # the drive's name begins with its day
    image_path = first_existing((root / folder / image for folder in _IMAGE_FOLDERS), "KITTI")
    return Entry(_name(image), image_path, depth)


def _name(image: str) -> str:
    """DAY/DRIVE/CAMERA/data/FRAME.png -> DRIVE/CAMERA/FRAME."""
    parts = Path(image).with_suffix("").parts
    return "/".join(part for part in parts[1:] if part != "data")


def _focal_px(text: str, split: Path) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{text!r} in {split} is no focal length; a line is {EXAMPLE!r}.") from error


def benchmark_crop(values: Tensor, path: Path) -> Tensor:
    """The KITTI benchmark's part of a picture or a map: the lowest 352 rows and the middle 1216 columns.

    Args:
        values: [C, H, W].
        path: where it was read from, for the error.

    Raises:
        ValueError: it is smaller than that.
    """
    height, width = values.shape[1:]
    if height < _CROP_HEIGHT or width < _CROP_WIDTH:
        raise ValueError(f"{path} is {width}x{height} pixels; KITTI's crop of 1216x352 does not fit in.")
    left = (width - _CROP_WIDTH) // 2
    return values[:, height - _CROP_HEIGHT :, left : left + _CROP_WIDTH].contiguous()


def _inside(depth_m: Tensor, mask: str) -> Tensor:
    height, width = depth_m.shape[1:]
    shares = MASKS[mask] or (0.0, 1.0, 0.0, 1.0)
    top, bottom, left, right = (
        int(share * side) for share, side in zip(shares, (height, height, width, width), strict=True)
    )
    return rectangle(depth_m, (top, bottom), (left, right))
