"""NYU Depth v2's test images, 654 indoor pictures of a Kinect.

Two layouts: Marigold's archive (`nyu_labeled_extracted.tar`), and the original `nyu_depth_v2_labeled.mat`. Of both the
raw depth with its holes is the ground truth, not the filled one, as in Marigold's protocol. Depth counts between 1 mm
and 10 m (both excluded) and inside of Eigen's crop.

Source: Silberman et al. 2012, https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html; crop and range: Marigold,
`src/dataset/nyu_dataset.py`, after Eigen et al. 2014, https://arxiv.org/abs/1406.2283.
"""

import re
import zlib
from pathlib import Path

import numpy as np
import torch

from ..optional import import_optional
from .entries import Entry, fields_of, first_existing, list_needed, nothing_found, read_split, require_folder
from .rasters import between, make_sample, read_png_m, read_rgb, rectangle
from .sample import DepthSample

NAME = "nyu"
MIN_DEPTH_M, MAX_DEPTH_M = 1e-3, 10.0
MAT_NAME, SPLITS_NAME = "nyu_depth_v2_labeled.mat", "splits.mat"
SPLIT_SOURCE = "data_split/nyu_depth/labeled/filename_list_test.txt in the repository prs-eth/Marigold"
EXAMPLE = "test/kitchen_0004/rgb_0001.png test/kitchen_0004/depth_0001.png test/kitchen_0004/filled_0001.png"
_SIZE = (480, 640)
_EIGEN_ROWS, _EIGEN_COLS = (45, 471), (41, 601)
# What scipy.io.loadmat raises for a damaged file, beside its own error, and for one of MATLAB 7.3.
_INSTALL = '`pip install -e ".[eval]"`'
_SCIPY_ERRORS = (OSError, KeyError, IndexError, TypeError, ValueError, NotImplementedError, zlib.error)


def list_entries(root: Path, split: Path | None = None) -> list[Entry]:
    """The test images below a folder, in the list's order, or by name without a list.

    Args:
        root: the folder into which the archive was extracted, or the folder of the `.mat` file, or that file.
        split: Marigold's list. For the `.mat` file also `splits.mat`, or numbers from 1, one a line; where it is not
            given, `splits.mat` beside the `.mat` file is taken. Without any, the archive's folder `test` is listed.

    Raises:
        ValueError: files or the list are missing or of another form.
    """
    root = Path(root)
    mat_path = root if root.suffix == ".mat" else root / MAT_NAME
    if mat_path.is_file() and not (root / "test").is_dir():
        return [_mat_entry(mat_path, number) for number in _test_numbers(mat_path, split)]
    require_folder(root, "NYU Depth v2")
    if split is not None:
        return [_pair(root, *fields_of(line, 2, split, EXAMPLE)) for line in read_split(split)]
    images = sorted(root.glob("test/*/rgb_*.png"))
    if not images:
        raise nothing_found(root, "NYU Depth v2", ("test/SCENE/rgb_*.png", MAT_NAME))
    relative = [image.relative_to(root).as_posix() for image in images]
    return [_pair(root, image, image.replace("/rgb_", "/depth_")) for image in relative]


def read(entry: Entry) -> DepthSample:
    """One image, 480 x 640; `valid` is the protocol's mask.

    Raises:
        ValueError: a file that cannot be read, or one of another size.
    """
    if "number" in entry.extra:
        image, depth_m = _read_mat(entry.image, entry.extra["number"])
    else:
        image, depth_m = read_rgb(entry.image), read_png_m(entry.depth, 1000)
    if tuple(depth_m.shape[1:]) != _SIZE:
        raise ValueError(
            f"{entry.depth} is {list(depth_m.shape[1:])}; NYU's maps are 480 x 640, where its crop is set."
        )
    valid = between(depth_m, MIN_DEPTH_M, MAX_DEPTH_M) & rectangle(depth_m, _EIGEN_ROWS, _EIGEN_COLS)
    return make_sample(image, depth_m, valid, entry.image)


def _pair(root: Path, image: str, depth: str) -> Entry:
    paths = (first_existing([root / name], "NYU Depth v2") for name in (image, depth))
    return Entry(image.rpartition(".")[0], *paths)


def _mat_entry(mat_path: Path, number: int) -> Entry:
    return Entry(f"{number:04d}", mat_path, mat_path, {"number": number})


def _test_numbers(mat_path: Path, split: Path | None) -> list[int]:
    """The numbers of the test images, from 1 as in MATLAB and in the names of Marigold's files."""
    if split is None:
        split = mat_path.with_name(SPLITS_NAME)
        if not split.is_file():
            reason = f"{mat_path.name} holds 1449 images, and there is no {SPLITS_NAME} beside it"
            raise list_needed(mat_path.parent, "NYU Depth v2", reason, SPLIT_SOURCE)
    listed = Path(split).suffix != ".mat"
    numbers = [_number_in(line[0], split) for line in read_split(split)] if listed else _splits_mat(Path(split))
    if min(numbers) < 1:
        raise ValueError(f"{split} has the image number {min(numbers)}; they count from 1, as in MATLAB.")
    return numbers


def _number_in(name: str, split: Path) -> int:
    match = re.search(r"(\d+)(\.\w+)?$", name)
    if match is None:
        raise ValueError(f"{name!r} in {split} ends in no image number; a line is {EXAMPLE!r} or a number from 1.")
    return int(match[1])


def _splits_mat(path: Path) -> list[int]:
    scipy_io = import_optional("scipy.io", f"Reading {path}", f"{_INSTALL}, or give a text list.")
    try:
        return [int(number) for number in scipy_io.loadmat(path)["testNdxs"].flatten()]
    except (*_SCIPY_ERRORS, scipy_io.matlab.MatReadError) as error:
        raise ValueError(
            f"{path} is not NYU's {SPLITS_NAME}, which holds `testNdxs` ({error}); download it again."
        ) from error


def _read_mat(path: Path, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Image [3, 480, 640] and raw depth [1, 480, 640]; MATLAB's arrays come with their axes reversed."""
    h5py = import_optional("h5py", f"Reading {path}", f"{_INSTALL}.")
    try:
        with h5py.File(path) as file:
            image = file["images"][number - 1]  # [3, W, H]
            depth_m = file["rawDepths"][number - 1]  # [W, H]
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"Image {number} of {path} cannot be read ({error}); NYU's labeled file has the arrays images and "
            "rawDepths for the numbers 1 to 1449. Download it again, or correct the list."
        ) from error
    image = np.ascontiguousarray(image.transpose(0, 2, 1), dtype=np.float32) / 255
    depth_m = np.ascontiguousarray(depth_m.T, dtype=np.float32)
    return torch.from_numpy(image), torch.from_numpy(depth_m)[None]
