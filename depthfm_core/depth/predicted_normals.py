"""Surface normals of a prediction, computed where the network estimated depth and then enlarged.

An enlarged depth map has one slope from the center of a cell to the next. Normals of it show a mosaic, and specks
where the steps of a silhouette's ramp are large and small in turn. Normals of the map before are as smooth as what the
network saw, and several times faster.
"""

from __future__ import annotations

from torch import Tensor

from ..resize import enlarge
from .normals import normals_from_depth, unit
from .points import focal_length
from .prediction import DepthPrediction, exp_below_max


def predicted_normals(
    prediction: DepthPrediction,
    *,
    fov_deg: float = 60.0,
    focal_px: float | None = None,
    strength: float = 1.0,
    smoothing: float = 0.0,
    convention: str = "opengl",
) -> Tensor:
    """Unit surface normals that face the camera, [B, 3, H, W] in [-1, 1], at the size of the prediction.

    Args:
        prediction: depth of a batch of images, at least 2 x 2. Without `working_log_depth` (of at least 2 x 2, too)
            normals are those of the depth map itself.
        fov_deg, focal_px, strength, smoothing, convention: as `normals_from_depth`, in pixels of the prediction.

    Raises:
        ValueError: as `normals_from_depth`.
    """
    estimated, (height, width) = prediction.working_log_depth, prediction.log_depth.shape[2:]
    camera = {"strength": strength, "convention": convention}
    focal_px = focal_length(width, fov_deg, focal_px)
    if estimated is None or min(estimated.shape[2:]) < 2:
        return normals_from_depth(prediction.relative_depth, focal_px=focal_px, smoothing=smoothing, **camera)
    across, down = estimated.shape[3] / width, estimated.shape[2] / height
    small = {"focal_px": focal_px * across, "smoothing": smoothing * across}
    normals = normals_from_depth(exp_below_max(estimated), **small, **camera)
    # With the focal length of the columns, points of a map that was stretched come out too high by down / across.
    normals[:, 1] *= down / across
    return unit(enlarge(normals, (height, width)))
