"""DepthFM as a native model of ComfyUI: its own `UNetModel`, which core's samplers, LoRA and compile nodes know."""

from dataclasses import dataclass, replace
from pathlib import Path

import comfy.latent_formats
import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.supported_models
import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor

from ..depthfm_core.model.attention import ATTENTIONS
from ..depthfm_core.model.checkpoints import DepthFMCheckpoint, load_checkpoint, tensors_beside_network
from ..depthfm_core.model.hyperparameters import UNetHyperParameters
from ..depthfm_core.model.precision import DTYPES, cpu_multiplies_bfloat16
from .attention import attention_in_use, set_attention
from .memory import network_bytes
from .model_sampling import DepthFMSampling
from .patches import transformer_options
from .vae import vae_inside

WEIGHT_DTYPES = {"default": None} | {name: dtype for name, dtype in DTYPES.items() if dtype is not None}


@dataclass(frozen=True, eq=False)
class Facts:
    """What a DepthFM is besides its network; lies on the model, so that every clone of its patcher has it.

    Attributes:
        source: what was read, without the network's tensors.
        vae: the model's own autoencoder as ComfyUI's VAE; None for a model without one.
        scaling_factor: turns that autoencoder's latents (or Stable Diffusion's) into the network's.
    """

    source: DepthFMCheckpoint
    vae: object | None
    scaling_factor: float


def load_model(
    path: Path,
    weight_dtype: str,
    attention: str,
    null_text: Tensor | None = None,
    facts: Facts | None = None,
    disable_dynamic: bool = False,
) -> comfy.model_patcher.ModelPatcher:
    """A checkpoint in any layout as a model under ComfyUI's management; nothing is on the GPU yet.

    Args:
        path: the file.
        weight_dtype: one of `WEIGHT_DTYPES`; "default" leaves the choice to ComfyUI and its command-line switches.
        attention: one of `depthfm_core.model.attention.ATTENTIONS`.
        null_text: see `load_checkpoint`.
        facts, disable_dynamic: for newer versions than 0.3.75, which load a model again, with the same autoencoder, for
            what dynamic VRAM cannot do (torch.compile, hooks).

    Raises:
        ValueError: for another dtype or attention.
        CheckpointError: for an unusable file.
    """
    for name, value, choices in (("weight dtype", weight_dtype, WEIGHT_DTYPES), ("attention", attention, ATTENTIONS)):
        if value not in choices:
            raise ValueError(f"Unknown {name} {value!r}; choose one of {', '.join(choices)}.")
    checkpoint = load_checkpoint(path, null_text)
    facts = facts or Facts(replace(checkpoint, state_dict={}), *vae_inside(checkpoint))
    model = DepthFMModel(_config(checkpoint, WEIGHT_DTYPES[weight_dtype]), facts, mm.unet_offload_device())
    kind = comfy.model_patcher.ModelPatcher if disable_dynamic else _patcher_class()
    patcher = kind(model, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device())
    assign = patcher.is_dynamic() if hasattr(patcher, "is_dynamic") else False  # newer than 0.3.75
    model.diffusion_model.load_state_dict(dict(checkpoint.state_dict), assign=assign)
    # In newer versions the file's dtype comes with its tensors, of all layers or, without `assign`, of linear ones.
    model.diffusion_model.to(model.get_dtype())
    patcher.cached_patcher_init = (load_model, (path, weight_dtype, attention, null_text, facts))
    set_attention(patcher, rescaled=attention == "rescaled")
    return patcher


def depthfm_of(patcher: comfy.model_patcher.ModelPatcher) -> "DepthFMModel":
    """The DepthFM behind a MODEL, patched or not.

    Raises:
        ValueError: for another model.
    """
    if not isinstance(patcher.model, DepthFMModel):
        raise ValueError(
            f"The model is a {type(patcher.model).__name__}; connect the DEPTHFM_MODEL or MODEL of Load DepthFM Model."
        )
    return patcher.model


def in_float32(patcher: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """A clone that shares the weights and computes in float32, whatever they are stored in."""
    clone = patcher.clone()
    clone.set_model_compute_dtype(torch.float32)
    return clone


class DepthFMModel(comfy.model_base.BaseModel):
    """ComfyUI's `UNetModel` with DepthFM's weights; the image latent is concatenated to every x_t."""

    def __init__(self, config: comfy.supported_models.SD20, facts: Facts, device: torch.device) -> None:
        super().__init__(config, device=device)
        self.model_sampling = DepthFMSampling(facts.source.noising_step, facts.source.parameterization)
        self.concat_keys = ("concat_image",)
        self.facts = facts
        if facts.vae:  # latents of its own, whose colors no preview knows
            self.latent_format = comfy.latent_formats.LatentFormat()
            self.latent_format.scale_factor = facts.scaling_factor

    def memory_required(self, input_shape: tuple[int, ...], *_args: object, **_options: object) -> int:
        """Bytes that a call with latents of this shape needs beside the weights; core's samplers ask as well."""
        return self._bytes_in(self.computed_dtype, input_shape)

    def memory_required_by(self, patcher: comfy.model_patcher.ModelPatcher, input_shape: tuple[int, ...]) -> int:
        """The same once `patcher`, one of this model's, is loaded: its clones may compute in another dtype."""
        return self._bytes_in(patcher.get_model_object("manual_cast_dtype") or self.get_dtype(), input_shape)

    def _bytes_in(self, dtype: torch.dtype, input_shape: tuple[int, ...]) -> int:
        casts = dtype != self.get_dtype()
        return network_bytes(self.facts.source.hyper, input_shape, mm.dtype_size(dtype), casts, attention_in_use())

    @property
    def computed_dtype(self) -> torch.dtype:
        """What the network computes in; the weights may be stored in another."""
        return self.manual_cast_dtype or self.get_dtype()

    def velocity(
        self, patcher: comfy.model_patcher.ModelPatcher, x_t: Tensor, t: Tensor, image_latent: Tensor
    ) -> Tensor:
        """The velocity at x_t, [N, 4, h, w] float32, with what is patched into `patcher` (LoRA, attention, compile).

        Args:
            patcher: a patcher of this model, loaded.
            x_t: [N, 4, h, w] points of the path, on the patcher's device.
            t: [N] float32 in [0, 1].
            image_latent: [N, 4, h, w] clean image latents.
        """
        options = transformer_options(patcher, 1 - t)
        text = self.facts.source.null_text.to(x_t.device).expand(len(x_t), -1, -1)
        wrappers = get_all_wrappers(WrappersMP.APPLY_MODEL, options)
        run = WrapperExecutor.new_class_executor(self._velocity, self, wrappers)
        return run.execute(x_t, 1 - t, image_latent, text, None, options)

    def _velocity(
        self,
        x_t: Tensor,
        sigma: Tensor,
        c_concat: Tensor,
        c_crossattn: Tensor,
        control: None = None,
        transformer_options: dict | None = None,
    ) -> Tensor:
        """`BaseModel._apply_model`, which wrappers expect, up to the step from velocity to denoised latent."""
        dtype = self.computed_dtype
        point = self.model_sampling.calculate_input(sigma, x_t)
        sample = torch.cat([point, c_concat], dim=1).to(dtype)  # [N, 8, h, w]
        t = self.model_sampling.timestep(sigma).float()
        time, text = self.process_timestep(t), c_crossattn.to(dtype)
        options = transformer_options or {}
        output = self.diffusion_model(sample, time, text, control=control, transformer_options=options)
        return self.model_sampling.ask.velocity(output.float(), x_t, t)

    def state_dict_for_saving(self, *tensors: object, **of_others: object) -> dict[str, Tensor]:
        """What core's Save Model writes: the network as it is patched, and what the loader needs beside it.

        The arguments are core's, and no two versions' are the same.
        """
        return super().state_dict_for_saving(*tensors, **of_others) | tensors_beside_network(self.facts.source)

    def process_timestep(self, timestep: Tensor, **_unused: object) -> Tensor:
        """The network's time for a time of the flow."""
        return self.model_sampling.ask.timestep(timestep)


class _Config(comfy.supported_models.SD20):
    """Stable Diffusion 2's family; `unet_config` says the heads, which differ."""

    unet_extra_config = {"attn_precision": torch.float32}  # SD 2.1's logits overflow float16


def _config(checkpoint: DepthFMCheckpoint, dtype: torch.dtype | None) -> _Config:
    dtype = dtype or mm.unet_dtype(mm.get_torch_device(), checkpoint.num_parameters)
    config = _Config(_unet_config(checkpoint.hyper))
    config.set_inference_dtype(dtype, _cast_dtype(dtype, mm.get_torch_device()))
    return config


def _cast_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype | None:
    """What weights are cast to for every layer, or None; ComfyUI would also cast where a CPU multiplies bfloat16."""
    if mm.is_device_cpu(device) and dtype == torch.bfloat16 and cpu_multiplies_bfloat16():
        return None
    return mm.unet_manual_cast(dtype, device)


def _unet_config(hyper: UNetHyperParameters) -> dict:
    """The hyper-parameters in ComfyUI's words: one transformer depth for each residual block."""
    depths = [hyper.transformer_depth if attends else 0 for attends in hyper.attends]
    return {
        "image_size": 32,  # not used by the network
        "in_channels": hyper.in_channels,
        "out_channels": hyper.out_channels,
        "model_channels": hyper.model_channels,
        "channel_mult": list(hyper.channel_mult),
        "num_res_blocks": [hyper.num_res_blocks] * len(depths),
        "num_heads": hyper.num_heads,
        "num_head_channels": hyper.num_head_channels,
        "context_dim": hyper.context_dim,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": hyper.use_linear_in_transformer,
        "transformer_depth": [depth for depth in depths for _ in range(hyper.num_res_blocks)],
        "transformer_depth_output": [depth for depth in depths for _ in range(hyper.num_res_blocks + 1)],
        "transformer_depth_middle": hyper.transformer_depth,
        "legacy": False,
    }


def _patcher_class() -> type[comfy.model_patcher.ModelPatcher]:
    """Looked up late: newer ComfyUI binds `CoreModelPatcher` at its start."""
    return getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
