"""Nodes of other packs that ours may stand in for, as ComfyUI offers it where a workflow's own node is missing.

https://docs.comfy.org/custom-nodes/backend/node-replacement; ComfyUI knows this since February 2026.
"""

# The node of ComfyUI-depth-fm. It loads its model by itself, so the Sampler's `model` is left to be connected. With its
# `invert` off near is black, for which the Sampler has no widget: README says what to put behind it.
DEPTH_FM = {
    "new_node_id": "DepthFM_Sampler",
    "old_node_id": "Depth_fm",
    "old_widget_ids": ["depthfm_model", "steps", "ensemble_size", "dtype", "invert", "per_batch"],
    "input_mapping": [
        {"new_id": "image", "old_id": "images"},
        {"new_id": "vae", "old_id": "vae"},
        {"new_id": "num_steps", "old_id": "steps"},
        {"new_id": "ensemble_size", "old_id": "ensemble_size"},
        # What the old node has nothing like, at the Sampler's defaults: a run over HTTP fills in nothing else.
        {"new_id": "seed", "set_value": 0},
        {"new_id": "solver", "set_value": "euler"},
        {"new_id": "grid", "set_value": "uniform"},
        {"new_id": "reduction", "set_value": "mean"},
        {"new_id": "processing_resolution", "set_value": -1},
        {"new_id": "noise", "set_value": "shared"},
        {"new_id": "frames_at_once", "set_value": 0},
    ],
    "output_mapping": [{"new_idx": 0, "old_idx": 0}],
}


async def register_replacements(comfy_api: object, io: object) -> None:
    """Tells ComfyUI, where it can be told.

    Args:
        comfy_api: an instance of `comfy_api.latest.ComfyAPI`.
        io: `comfy_api.latest.io`.
    """
    if hasattr(io, "NodeReplace"):
        await comfy_api.node_replacement.register(io.NodeReplace(**DEPTH_FM))
