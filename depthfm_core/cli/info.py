"""`info`: what a checkpoint holds."""

import argparse

from ..model.catalog import MODELS, find_model
from ..model.checkpoints import DepthFMCheckpoint, load_checkpoint
from ..model.layouts import flatten_settings
from . import import_networks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=f"a file, a folder, or one of {', '.join(MODELS)}")


def run(args: argparse.Namespace) -> int:
    """Prints one line a fact and returns 0; CheckpointError for an unusable file."""
    path, vae = find_model(args.file)
    checkpoint = load_checkpoint(path)
    if checkpoint.codec_tensors:
        import_networks(args)
    facts = describe(checkpoint)
    if vae and not checkpoint.codec_tensors:
        facts["autoencoder"] = f"beside it, {vae}" if vae.is_dir() else f"missing, {vae}; `download` fetches it"
    for name, value in facts.items():
        print(f"{name + ':':27} {value}")
    return 0


def describe(checkpoint: DepthFMCheckpoint) -> dict[str, str]:
    """The facts about a checkpoint, as words."""
    weights = checkpoint.state_dict.values()
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights})
    facts = {
        "file": str(checkpoint.path),
        "parameters": f"{checkpoint.num_parameters:,} in {len(weights)} tensors, {', '.join(dtypes)}",
    }
    facts |= {name: _listed(value) for name, value in checkpoint.hyper.to_ldm().items()}
    return facts | {
        "channels a level": _listed(checkpoint.hyper.channels),
        "heads a level": _listed(checkpoint.hyper.heads),
        "noising step": f"{checkpoint.noising_step} of 1000",
        "processing resolution": f"{checkpoint.processing_resolution} pixels on the short side",
        "spread scale": f"{checkpoint.spread_scale:g}",
        "parameterization": checkpoint.parameterization,
        "empty text embedding": _listed(checkpoint.null_text.shape),
        "autoencoder": _autoencoder(checkpoint),
        **_training(checkpoint),
    }


def _training(checkpoint: DepthFMCheckpoint) -> dict[str, str]:
    """The version and the settings that made it, and the step of one that is not done, where the file says so."""
    made_by = checkpoint.training or {}
    settings = flatten_settings({"recipe": made_by.get("recipe", {})}) if made_by else {}
    version = {"trained by": f"depthfm {made_by.get('version', 'of unknown version')}"} if made_by else {}
    if "step" in made_by:
        version["trained until"] = f"step {made_by['step']}, before the training's end"
    return version | {name: _listed(value) for name, value in settings.items()}


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _autoencoder(checkpoint: DepthFMCheckpoint) -> str:
    codec = checkpoint.build_codec()
    if codec is None:
        return "none inside; `predict` needs --vae"
    count = sum(tensor.numel() for tensor in checkpoint.codec_tensors.values())
    return f"{type(codec.autoencoder).__name__}, {count:,} parameters, scaling factor {codec.scaling_factor:g}"
