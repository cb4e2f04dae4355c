"""The loader node."""

import torch
from comfy_api.latest import io

from ..depthfm_core.model.attention import ATTENTIONS
from . import native
from .model_files import model_names, model_path, no_such_model
from .sockets import LOADER_CATEGORY, ModelType, schema
from .vae import EXAMPLE_VAE
from .widgets import rarely_used


class LoadDepthFMModel(io.ComfyNode):
    """A DepthFM file to DEPTHFM_MODEL, and to what core's nodes take."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the front end shows."""
        return schema(
            node_id="DepthFM_LoadModel",
            display_name="Load DepthFM Model",
            category=LOADER_CATEGORY,
            description="Loads a DepthFM depth model. 'nano' comes with the pack and brings its own autoencoder.",
            search_aliases=["depth", "depth estimation", "depthfm", "monocular depth", "flow matching"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_names(),
                    display_name="model",
                    tooltip="'nano' is bundled. Others are read from models/depthfm, and from geometry_estimation, "
                    "checkpoints and diffusion_models where the file name contains 'depthfm'.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(native.WEIGHT_DTYPES),
                    default="default",
                    tooltip="'default' lets ComfyUI choose for your GPU. Half precision halves the network's memory. "
                    "Autoencoders always compute in float32 here; ComfyUI's --fp32-vae keeps their weights exact, too.",
                ),
                rarely_used(
                    io.Combo.Input,
                    "attention",
                    options=list(ATTENTIONS),
                    default="plain",
                    tooltip="'plain' is the default. 'rescaled' gives the numbers of the authors' code when it runs "
                    "without xformers.",
                ),
                io.Conditioning.Input(
                    "empty_prompt",
                    optional=True,
                    tooltip="Only for files that hold no embedding of the empty prompt, as pruned ones: CLIP Text "
                    "Encode with an empty text and Stable Diffusion 2.1's text encoder.",
                ),
            ],
            outputs=[
                ModelType.Output(display_name="DEPTHFM_MODEL", tooltip="For the DepthFM Sampler."),
                io.Model.Output(
                    display_name="MODEL",
                    tooltip="The same model for core's nodes: KSampler (euler, simple, cfg 1, denoise 1), LoRA, "
                    "torch.compile.",
                ),
                io.Conditioning.Output(
                    display_name="CONDITIONING", tooltip="The empty prompt, for KSampler's positive and negative."
                ),
                io.Vae.Output(
                    display_name="VAE",
                    tooltip="The model's own autoencoder: 'nano' and models that this project trained bring one.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, model_name: str | None) -> bool | str:
        """True, or where the missing file would be looked for; ComfyUI 0.3.75 would find out only when it runs.

        None is a name that comes by a link and is not known yet.
        """
        return True if model_name is None or model_name in model_names() else no_such_model(model_name)

    @classmethod
    def fingerprint_inputs(
        cls,
        model_name: str | None,
        weight_dtype: str | None,
        attention: str | None,
        empty_prompt: None = None,  # noqa: ARG003
    ) -> tuple:
        """Changes when the file on disk does; of a name that comes by a link, nothing is known yet.

        Nor is the empty prompt; ComfyUI runs the node again by itself when what is linked to it changes.
        """
        if model_name is None:
            return weight_dtype, attention
        file = model_path(model_name).stat()
        return model_name, weight_dtype, attention, file.st_mtime_ns, file.st_size

    @classmethod
    def execute(
        cls, model_name: str, weight_dtype: str, attention: str, empty_prompt: list | None = None
    ) -> io.NodeOutput:
        """Reads the file."""
        null_text = None if empty_prompt is None else _embedding(empty_prompt)
        model = native.load_model(model_path(model_name), weight_dtype, attention, null_text)
        facts = native.depthfm_of(model).facts
        vae = facts.vae or MissingVae(model_name)
        return io.NodeOutput(model, model, [[facts.source.null_text, {}]], vae)


def _embedding(conditioning: list) -> torch.Tensor:
    """[1, L, D] of the one prompt in a CONDITIONING."""
    if len(conditioning) != 1:
        raise ValueError(
            f"empty_prompt holds {len(conditioning)} prompts; connect one CLIP Text Encode with an empty text."
        )
    return conditioning[0][0].cpu()


class MissingVae:
    """Stands on the VAE output of a model without an autoencoder; whatever is asked of it says which VAE to load.

    An `ExecutionBlocker` of ComfyUI would stop the graph and leave nothing in its history.
    """

    model_name = ""  # so that a copy, made without __init__, can be asked too

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name

    def __getattr__(self, name: str) -> object:
        # AttributeError, so that `hasattr` works on it
        raise AttributeError(
            f"{self.model_name} brings no autoencoder; use Load VAE with one of Stable Diffusion 1.5 or 2.x, for "
            f"example {EXAMPLE_VAE}."
        )
