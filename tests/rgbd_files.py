"""Pictures, depth maps and lists as the data sets store them, for the tests of the readers."""

import numpy as np
from PIL import Image


def write_picture(path, height, width, color=(255, 0, 51)):
    """One color; PNG or JPEG by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = color
    Image.fromarray(picture).save(path)


def write_numbered_picture(path, height, width):
    """A PNG whose red is the column and whose green the row, both modulo 256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:height, :width]
    Image.fromarray(np.stack([columns % 256, rows % 256, 0 * rows], -1).astype(np.uint8)).save(path)


def write_png16(path, units):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(units).astype(np.uint16)).save(path)


def write_npy(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def write_list(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def bounds(valid):
    """(first row, last row, first column, last column) of what is True in [1, H, W]."""
    rows, columns = np.nonzero(valid[0].numpy())
    return rows.min(), rows.max(), columns.min(), columns.max()
