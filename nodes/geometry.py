"""The node that hands depth to ComfyUI's own geometry nodes."""

import importlib.util

import torch
from comfy_api.latest import io

from ..depthfm_core.depth.geometry import check_belongs, da3_geometry, moge_geometry
from ..depthfm_core.depth.prediction import DepthPrediction
from .convert import channels_first, rgb
from .frames import frames_of, joined
from .sockets import CATEGORY, schema
from .widgets import camera_inputs, depth_input

MoGeGeometryType = io.Custom("MOGE_GEOMETRY")
DA3GeometryType = io.Custom("DA3_GEOMETRY")


def comfyui_has_geometry_nodes() -> bool:
    """Whether the running ComfyUI brings the MoGe nodes, as it does from 0.22 on."""
    return importlib.util.find_spec("comfy_extras.nodes_moge") is not None


class DepthToGeometry(io.ComfyNode):
    """DEPTHFM_DEPTH to the dictionaries that ComfyUI's own mesh nodes take."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the front end shows."""
        return schema(
            node_id="DepthFM_Geometry",
            display_name="Depth to Geometry (DepthFM)",
            category=CATEGORY,
            description="Depth as 3D points, for ComfyUI's own MoGe and Depth Anything 3 nodes: mesh, normals, field "
            "of view. Depth has no unit: the farthest point of each image is at distance 1.",
            search_aliases=["point cloud", "mesh", "3d", "depth to mesh", "moge", "depth anything", "depthfm"],
            inputs=[
                depth_input(),
                io.Image.Input(
                    "image", tooltip="The images that the depth was estimated from, for the mesh's texture."
                ),
                *camera_inputs(),
            ],
            outputs=[
                MoGeGeometryType.Output(
                    display_name="MOGE_GEOMETRY",
                    tooltip="For the MoGe nodes. Depth is relative, up to 1, not in meters.",
                ),
                DA3GeometryType.Output(
                    display_name="DA3_GEOMETRY",
                    tooltip="For the Depth Anything 3 nodes, from ComfyUI 0.25 on. Depth is relative, not in meters.",
                ),
            ],
        )

    @classmethod
    def execute(cls, depth: DepthPrediction, image: torch.Tensor, fov_deg: float, focal_px: float) -> io.NodeOutput:
        """The geometry of frame after frame; the two dictionaries share depth and image."""
        image = channels_first(image)
        check_belongs(depth, image)
        camera = {"fov_deg": fov_deg, "focal_px": focal_px or None}
        frames = zip(frames_of(depth), image.split(1), strict=True)
        both = joined((_geometry(frame, rgb(pixels), camera) for frame, pixels in frames), len(image))
        intrinsics = both.pop("da3_intrinsics").transpose(0, 1)
        da3 = {"depth": both["depth"], "intrinsics": intrinsics, "image": both["image"], "mode": "mono"}
        return io.NodeOutput(both, da3)


def _geometry(frame: DepthPrediction, image: torch.Tensor, camera: dict[str, float | None]) -> dict[str, torch.Tensor]:
    """MoGe's dictionary of a frame, with the intrinsics that Depth Anything counts otherwise."""
    da3 = da3_geometry(frame, image, **camera)
    return {**moge_geometry(frame, image, **camera), "da3_intrinsics": da3["intrinsics"]}
