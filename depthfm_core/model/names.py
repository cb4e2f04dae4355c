"""Tensor names of a UNet: LDM's (`input_blocks.1.0.in_layers.0`), which files use, and diffusers', which modules use.

One list of module pairs, made from the hyper-parameters, serves both directions.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

from .hyperparameters import UNetHyperParameters

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


def ldm_to_diffusers(state_dict: Mapping[str, Tensor], hyper: UNetHyperParameters) -> dict[str, Tensor]:
    """The same tensors under diffusers' `UNet2DConditionModel` names; a name without a counterpart stays as it is."""
    return _rename(state_dict, _module_names(hyper))


def diffusers_to_ldm(state_dict: Mapping[str, Tensor], hyper: UNetHyperParameters) -> dict[str, Tensor]:
    """The same tensors under LDM's names, as published files hold them; the inverse of `ldm_to_diffusers`."""
    return _rename(state_dict, {d: ldm for ldm, d in _module_names(hyper).items()})


def _rename(state_dict: Mapping[str, Tensor], modules: Mapping[str, str]) -> dict[str, Tensor]:
    """Replaces the longest known module path that starts each name."""
    return {_rename_one(name, modules): tensor for name, tensor in state_dict.items()}


def _rename_one(name: str, modules: Mapping[str, str]) -> str:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = modules.get(".".join(parts[:length]))
        if module is not None:
            return ".".join([module, *parts[length:]])
    return name


def _module_names(hyper: UNetHyperParameters) -> dict[str, str]:
    """LDM module path -> diffusers module path."""
    return dict(_ENDS) | dict(_down(hyper)) | dict(_middle()) | dict(_up(hyper))


def _down(hyper: UNetHyperParameters) -> Iterable[tuple[str, str]]:
    index = 1
    for level, attends in enumerate(hyper.attends):
        for layer in range(hyper.num_res_blocks):
            yield from _resnet(f"input_blocks.{index}.0", f"down_blocks.{level}.resnets.{layer}")
            if attends:
                yield f"input_blocks.{index}.1", f"down_blocks.{level}.attentions.{layer}"
            index += 1
        if level < len(hyper.channel_mult) - 1:
            yield f"input_blocks.{index}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
            index += 1


def _middle() -> Iterable[tuple[str, str]]:
    yield from _resnet("middle_block.0", "mid_block.resnets.0")
    yield "middle_block.1", "mid_block.attentions.0"
    yield from _resnet("middle_block.2", "mid_block.resnets.1")


def _up(hyper: UNetHyperParameters) -> Iterable[tuple[str, str]]:
    index = 0
    for block, attends in enumerate(reversed(hyper.attends)):
        for layer in range(hyper.num_res_blocks + 1):
            yield from _resnet(f"output_blocks.{index}.0", f"up_blocks.{block}.resnets.{layer}")
            if attends:
                yield f"output_blocks.{index}.1", f"up_blocks.{block}.attentions.{layer}"
            index += 1
        if block < len(hyper.channel_mult) - 1:
            position = 2 if attends else 1
            yield f"output_blocks.{index - 1}.{position}.conv", f"up_blocks.{block}.upsamplers.0.conv"


def _resnet(ldm: str, diffusers: str) -> Iterable[tuple[str, str]]:
    return ((f"{ldm}.{a}", f"{diffusers}.{b}") for a, b in _RESNET.items())
