"""Small trees in the layouts of the data sets that are trained on."""

import h5py
import numpy as np

from depthfm_core.training.sources import DataSetSettings

from .rgbd_files import write_npy, write_picture, write_png16

HYPERSIM = DataSetSettings("hypersim", "hypersim")
VKITTI2 = DataSetSettings("vkitti2", "vkitti2", variations=("clone",))


def names(frames):
    return [frame.name for frame in frames]


def write_hdf5(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["dataset"] = values


def write_hypersim(root, scene, camera, number, radiance=None, distance_m=None, entities=None, size=(6, 8)):
    """One frame of the original download; gray of 0.25 at a distance of 3 m unless told otherwise."""
    images, stem = root / scene / "images", f"frame.{number:04d}"
    radiance = np.full((*size, 3), 0.25) if radiance is None else radiance
    distance_m = np.full(size, 3.0) if distance_m is None else distance_m
    write_hdf5(images / f"scene_{camera}_final_hdf5" / f"{stem}.color.hdf5", radiance.astype(np.float16))
    geometry = images / f"scene_{camera}_geometry_hdf5"
    write_hdf5(geometry / f"{stem}.depth_meters.hdf5", distance_m.astype(np.float32))
    if entities is not None:
        write_hdf5(geometry / f"{stem}.render_entity_id.hdf5", entities.astype(np.int32))


def write_hypersim_processed(folder, scene, camera, number, depth_mm, color=(255, 0, 51)):
    write_picture(folder / scene / f"rgb_{camera}_fr{number:04d}.png", *np.shape(depth_mm), color)
    write_png16(folder / scene / f"depth_plane_{camera}_fr{number:04d}.png", depth_mm)


def write_vkitti2(root, scene, variation, camera, number, units=None, layout="merged", size=(10, 12)):
    """One frame, 20 m everywhere unless told otherwise."""
    rgb, depth = (root, root) if layout == "merged" else (root / "rgb", root / "depth")
    units = np.full(size, 2000) if units is None else units
    image = rgb / f"{scene}/{variation}/frames/rgb/Camera_{camera}/rgb_{number:05d}.jpg"
    write_picture(image, *units.shape)
    write_png16(depth / f"{scene}/{variation}/frames/depth/Camera_{camera}/depth_{number:05d}.png", units)
    return image


def write_rooms_and_streets(folder):
    """Four processed Hypersim frames for training, of which 1 and 3 are complete, and five for validation; streets."""
    for number in range(4):
        depth_mm = np.full((6, 8), 2345)
        depth_mm[0, 0] *= number % 2
        write_hypersim_processed(folder / "hypersim/train", "ai_001_001", "cam_00", number, depth_mm)
    for number in range(5):
        write_hypersim_processed(folder / "hypersim/val", "ai_002_001", "cam_00", number, np.full((6, 8), 1000))
    for scene in ("Scene01", "Scene02", "Scene06", "Scene18", "Scene20"):
        for variation in ("clone", "fog"):
            for camera in (0, 1):
                write_vkitti2(folder / "vkitti2", scene, variation, camera, 0, size=(375, 1242))


def write_pairs(folder, *paired):
    for name in paired:
        write_picture(folder / f"{name}.jpg", 6, 8)
        write_npy(folder / f"{name}.npy", np.full((6, 8), 2.5))
