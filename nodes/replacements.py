"""Nodes of other packs that ours may stand in for, as ComfyUI offers it where a workflow's own node is missing.

https://docs.comfy.org/custom-nodes/backend/node-replacement; ComfyUI knows this since February 2026.
"""

# The node of ComfyUI-depth-fm. It loads its model by itself, so the Sampler's `model` is left to be connected.
DEPTH_FM = {
    "new_node_id": "DepthFM_Sampler",
    "old_node_id": "Depth_fm",
    "old_widget_ids": ["depthfm_model", "steps", "ensemble_size", "dtype", "invert", "per_batch"],
    "input_mapping": [
        {"new_id": "image", "old_id": "images"},
        {"new_id": "vae", "old_id": "vae"},
        {"new_id": "num_steps", "old_id": "steps"},
        {"new_id": "ensemble_size", "old_id": "ensemble_size"},
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
