"""Facts about the node pack where diffusers is not, see `test_nodes_imports.py`; run by `comfyui_process.ask`."""

import asyncio
import json
import sys
from pathlib import Path

from comfyui_process import GOLDEN, answer, error_of, image, relative, settings

_FAULTS = ("missing", "extra", "shape", "integers", "kind", "groups", "levels", "layers")
_TENSOR = {"tiny": "vae.decoder.layers.0.weight", "kl": "vae.decoder.conv_in.weight"}


def facts(folder: Path) -> dict:
    """Everything that the tests ask about."""
    from a_pack.depthfm_core.model.catalog import NANO_PATH

    asyncio.run(sys.modules["a_pack"].comfy_entrypoint())
    imported = "diffusers" in sys.modules
    models = {"nano": NANO_PATH, **{name: _with_kl(folder, name) for name in ("kl", "kl in LDM's names")}}
    sys.modules["diffusers"] = None  # Python's own mark of a module that cannot be imported
    depths = {name: _depth(path) for name, path in models.items()}
    refused = _refused(folder)
    del sys.modules["diffusers"]
    return {
        "imported_at_the_start": imported,
        "differences": {name: relative(depths[name], _depth_outside_of_comfyui(path)) for name, path in models.items()},
        "refused": refused,
    }


def _with_kl(folder: Path, name: str) -> Path:
    """The toy model with a KL autoencoder inside, under diffusers' names, or those of Stable Diffusion's own files."""
    from dataclasses import replace

    from a_pack.depthfm_core.model.checkpoints import load_checkpoint, save_checkpoint
    from a_pack.nodes.vae_shapes import ldm_names
    from safetensors.torch import load_file

    tensors = load_file(GOLDEN / "micro-vae-diffusers.safetensors")
    tensors = tensors if name == "kl" else ldm_names(tensors)
    config = json.loads((GOLDEN / "micro-vae-diffusers.json").read_text(encoding="utf-8"))
    toy = load_checkpoint(GOLDEN / "depthfm-micro-heads8.ckpt")
    save_checkpoint(replace(toy, codec_tensors=tensors, codec_config=config), folder / f"{name}.safetensors", "float32")
    return folder / f"{name}.safetensors"


def _depth(path: Path):
    from a_pack.nodes.native import load_model
    from a_pack.nodes.runtime import estimate

    return estimate(load_model(path, "default", "plain"), image(), settings(), None).log_depth


def _depth_outside_of_comfyui(path: Path):
    """By diffusers' networks."""
    from a_pack.depthfm_core.loading import load_pipeline

    return load_pipeline(path, backend="torch")(image(), settings()).log_depth


def _refused(folder: Path) -> dict[str, list[str]]:
    """The kind of error, and what it says, for a file with another autoencoder inside, nano's or the toy KL."""
    from a_pack.depthfm_core.model.catalog import NANO_PATH
    from a_pack.nodes.native import load_model

    faulty = folder / "faulty.safetensors"
    found = {}
    for inside, path in (("tiny", NANO_PATH), ("kl", folder / "kl.safetensors")):
        for fault in _FAULTS if inside == "kl" else _FAULTS[:5]:
            _spoil(path, _TENSOR[inside], fault, faulty)
            error = error_of(lambda: load_model(faulty, "default", "plain"))
            found[f"{inside} {fault}"] = [type(error).__name__, str(error)]
    return found


def _spoil(path: Path, name: str, fault: str, target: Path) -> None:
    """Writes a model file with a fault in the tensor of this name, or in the autoencoder's configuration."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    config = json.loads(metadata["codec_config"])
    if fault == "missing":
        del tensors[name]
    elif fault == "extra":
        tensors[f"{name}.more"] = torch.zeros(1)
    elif fault == "shape":
        tensors[name] = tensors[name].repeat(1, 4, 1, 1)  # of 16 latent channels
    elif fault == "integers":
        tensors[name] = tensors[name].int()
    elif fault == "levels":
        config["block_out_channels"] = config["block_out_channels"][:3]
    else:
        changed = {"kind": {"_class_name": "VQModel"}, "groups": {"norm_num_groups": 16}}
        config |= changed.get(fault, {"layers_per_block": "two"})
    save_file(tensors, target, metadata=metadata | {"codec_config": json.dumps(config)})


if __name__ == "__main__":
    answer(facts)
