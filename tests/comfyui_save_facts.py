"""Facts about core's Save Model on a DepthFM; `comfyui_native_facts.py` answers with them."""

from dataclasses import replace
from pathlib import Path

from comfyui_process import GOLDEN, error_of, image, relative, settings

LAYER = "diffusion_model.middle_block.1.proj_in.weight"


def save_facts(folder: Path) -> dict:
    """For each model: how far it is, saved with a patched weight and loaded again, from what was saved."""
    from a_pack.depthfm_core.model.catalog import NANO_PATH

    models = {"nano": NANO_PATH, "unlike the defaults": _unlike_the_defaults(folder)}
    bare = _saved(_loaded(GOLDEN / "depthfm-micro-headdim16.ckpt"), folder, "bare")
    return {
        "saved": {name: _saved_and_loaded(path, folder) for name, path in models.items()},
        "saved_without_autoencoder": str(error_of(lambda: _estimate(_loaded(bare)))),
        "saved_by_newer": _keys_of_newer(_loaded(NANO_PATH)),
    }


def _loaded(path: Path):
    from a_pack.nodes import load

    real, load.model_path = load.model_path, lambda _name: path
    model = load.LoadDepthFMModel.execute(path.name, "default", "plain").result[0]
    load.model_path = real
    return model


def _saved(patcher, folder: Path, name: str) -> Path:
    """What core's own node writes, as it does in a graph without a workflow."""
    from comfy_extras.nodes_model_merging import ModelSave

    node = ModelSave()
    node.output_dir = str(folder)
    node.save(patcher, name)
    return folder / f"{name}_00001_.safetensors"


def _estimate(patcher):
    from a_pack.nodes.runtime import estimate

    return estimate(patcher, image()[..., :56, :], settings(processing_resolution=None), None)


def _unlike_the_defaults(folder: Path) -> Path:
    """Heads of 16 channels, and no fact as a reader would assume it."""
    from a_pack.depthfm_core.model.checkpoints import load_checkpoint, save_checkpoint
    from a_pack.depthfm_core.model.codec import load_codec
    from a_pack.depthfm_core.model.codec_parts import codec_config, codec_tensors

    checkpoint = load_checkpoint(GOLDEN / "depthfm-micro-headdim16.ckpt")
    codec = load_codec(GOLDEN / "micro-vae-diffusers.safetensors")
    codec.scaling_factor = 0.9
    facts = {"noising_step": 300, "processing_resolution": 64, "spread_scale": 1.5, "parameterization": "diff2flow"}
    whole = replace(checkpoint, codec_tensors=codec_tensors(codec), codec_config=codec_config(codec), **facts)
    path = folder / "unlike.safetensors"
    save_checkpoint(whole, path, "float32")
    return path


def _saved_and_loaded(path: Path, folder: Path) -> dict:
    original = _loaded(path)
    patched = original.clone()
    weight = patched.get_model_object(LAYER)
    patched.add_patches({LAYER: ("diff", (weight.detach().flip(0),))})
    expected = _estimate(patched)
    again = _loaded(_saved(patched, folder, path.stem))
    found = _estimate(again)
    return {
        "log_depth": relative(found.log_depth, expected.log_depth),
        "uncertainty": relative(found.uncertainty, expected.uncertainty),
        "patch": relative(_estimate(original).log_depth, expected.log_depth),
        "same_shape": again.model.facts.source.hyper == original.model.facts.source.hyper,
    }


def _keys_of_newer(patcher) -> list[str]:
    """What is written beside the network where core hands the network's tensors over first."""
    import comfy.model_base

    def newer(_self, network, clip_state_dict=None, vae_state_dict=None, clip_vision_state_dict=None):  # noqa: ARG001
        return dict(network)

    real, comfy.model_base.BaseModel.state_dict_for_saving = comfy.model_base.BaseModel.state_dict_for_saving, newer
    keys = patcher.model.state_dict_for_saving({"network": None}, clip_state_dict=None)
    comfy.model_base.BaseModel.state_dict_for_saving = real
    return sorted(key for key in keys if not key.startswith("vae."))


if __name__ == "__main__":
    from comfyui_process import answer

    answer(save_facts)
