"""Facts about the node pack where diffusers is not, see `test_nodes_imports.py`; run by `comfyui_process.ask`."""

import asyncio
import json
import sys
from pathlib import Path

from comfyui_process import answer, error_of, image, relative, settings


def facts(folder: Path) -> dict:
    """Everything that the tests ask about."""
    asyncio.run(sys.modules["a_pack"].comfy_entrypoint())
    imported = "diffusers" in sys.modules
    sys.modules["diffusers"] = None  # Python's own mark of a module that cannot be imported
    depth = _nano_depth()
    del sys.modules["diffusers"]
    return {
        "imported_at_the_start": imported,
        "difference": relative(depth, _depth_outside_of_comfyui()),
        "refused": _refused(folder),
    }


def _nano_depth():
    from a_pack.depthfm_core.model.bundled import NANO_PATH
    from a_pack.nodes.native import load_model
    from a_pack.nodes.runtime import estimate

    return estimate(load_model(NANO_PATH, "default", "plain"), image(), settings(), None).log_depth


def _depth_outside_of_comfyui():
    """By diffusers' networks."""
    from a_pack.depthfm_core.loading import load_pipeline

    return load_pipeline("nano", backend="torch")(image(), settings()).log_depth


def _refused(folder: Path) -> dict[str, list[str]]:
    """The kind of error, and what it says, for nano's file with another autoencoder inside."""
    import torch
    from a_pack.depthfm_core.model.bundled import NANO_PATH
    from a_pack.nodes.native import load_model
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(NANO_PATH, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    name = "vae.decoder.layers.0.weight"
    config = json.dumps(json.loads(metadata["codec_config"]) | {"_class_name": "VQModel"})
    files = {
        "missing": ({k: t for k, t in tensors.items() if k != name}, metadata),
        "extra": (tensors | {f"{name}.more": torch.zeros(1)}, metadata),
        "shape": (tensors | {name: tensors[name].repeat(1, 4, 1, 1)}, metadata),  # of 16 latent channels
        "another kind": (tensors, metadata | {"codec_config": config}),
    }
    for kind, content in files.items():
        save_file(content[0], folder / f"{kind}.safetensors", metadata=content[1])
    errors = {k: error_of(lambda k=k: load_model(folder / f"{k}.safetensors", "default", "plain")) for k in files}
    return {kind: [type(error).__name__, str(error)] for kind, error in errors.items()}


if __name__ == "__main__":
    answer(facts)
