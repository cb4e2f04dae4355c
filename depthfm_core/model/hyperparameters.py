"""The shape of a DepthFM UNet, in the names that Stable Diffusion's `ldm_hparams` use.

Weight shapes give everything but the number of attention heads: the published model has 8 heads on every level, where
Stable Diffusion 2.1 has heads of 64 channels, with the same weight shapes. A file that says nothing gets 8.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral

from torch import Tensor

DEFAULT_NUM_HEADS = 8
# Entries of published files that describe nothing which changes the function that the network computes.
_IGNORED = ("image_size", "legacy", "use_checkpoint", "use_fp16", "dropout", "dims")
# Far above any UNet's, and small enough that a damaged file's network is refused before it is built.
_MOST_LEVELS = 16
_LARGEST = {
    "model_channels": 4096,
    "channel_mult": 64,
    "num_res_blocks": 32,
    "attention_resolutions": 2**_MOST_LEVELS,
    "context_dim": 2**16,
    "in_channels": 64,
    "out_channels": 64,
    "transformer_depth": 64,
}


@dataclass(frozen=True)
class UNetHyperParameters:
    """The shape of the network; `attention_resolutions` counts downsampling factors, as LDM does.

    Exactly one of `num_heads` (heads on every level) and `num_head_channels` (channels of a head) is positive.

    Raises:
        ValueError: for a combination that no UNet has.
    """

    model_channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int
    attention_resolutions: tuple[int, ...]
    context_dim: int
    in_channels: int = 8
    out_channels: int = 4
    num_heads: int = DEFAULT_NUM_HEADS
    num_head_channels: int = -1
    transformer_depth: int = 1
    use_linear_in_transformer: bool = True
    use_spatial_transformer: bool = True

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            _check_whole(name, getattr(self, name), largest)
        for name in ("num_heads", "num_head_channels"):
            if not _is_whole(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected a whole number, -1 for none.")
        for name in ("use_linear_in_transformer", "use_spatial_transformer"):
            if not isinstance(getattr(self, name), Integral):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected true or false.")
        if not self.use_spatial_transformer:
            raise ValueError("use_spatial_transformer is false; a DepthFM UNet attends to a text embedding.")
        if (self.num_heads > 0) == (self.num_head_channels > 0):
            raise ValueError(
                f"num_heads is {self.num_heads} and num_head_channels is {self.num_head_channels}; "
                "set one of them and leave the other at -1."
            )
        if self.channel_mult[0] != 1:
            # LDM's first convolution has model_channels, diffusers' as many as the first level.
            raise ValueError(f"channel_mult is {list(self.channel_mult)}; its first entry must be 1.")
        for heads, channels in zip(self.heads, self.channels, strict=True):
            if heads < 1 or channels % heads or channels % 32:
                raise ValueError(
                    f"{channels} channels on a level do not divide into {heads} heads and 32 norm groups; "
                    "choose other model_channels, channel_mult or heads."
                )

    @property
    def channels(self) -> tuple[int, ...]:
        """The number of channels on each level, full resolution first."""
        return tuple(self.model_channels * m for m in self.channel_mult)

    @property
    def heads(self) -> tuple[int, ...]:
        """The number of attention heads on each level."""
        return tuple(self.num_heads if self.num_heads > 0 else c // self.num_head_channels for c in self.channels)

    @property
    def attends(self) -> tuple[bool, ...]:
        """Whether each level has transformers."""
        return tuple(2**level in self.attention_resolutions for level in range(len(self.channel_mult)))

    def to_ldm(self) -> dict:
        """The hyper-parameters as plain JSON values under LDM's names."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        del values["num_head_channels" if self.num_heads > 0 else "num_heads"]
        return values


def _check_whole(name: str, value: object, largest: int) -> None:
    numbers = value if isinstance(value, tuple) else (value,)
    if len(numbers) > _MOST_LEVELS or not all(_is_whole(n) and 1 <= n <= largest for n in numbers):
        raise ValueError(f"{name} is {value!r}; expected whole numbers from 1 to {largest}.")


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def from_ldm(values: Mapping) -> UNetHyperParameters:
    """The hyper-parameters of a published `ldm_hparams` dictionary; 8 heads where it names none.

    Raises:
        ValueError: for missing or unknown entries, or values that describe no UNet.
    """
    known = {f.name for f in fields(UNetHyperParameters)}
    unknown = sorted(set(values) - known - set(_IGNORED))
    if unknown:
        raise ValueError(f"unknown hyper-parameters {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
    given = {k: v for k, v in values.items() if k in known}
    missing = {
        "model_channels",
        "channel_mult",
        "num_res_blocks",
        "attention_resolutions",
        "context_dim",
    } - set(given)
    if missing:
        raise ValueError(f"the hyper-parameters lack {', '.join(sorted(missing))}.")
    return UNetHyperParameters(**_plain_types(given))


def _plain_types(given: dict) -> dict:
    """Tuples for lists, one number for a list that repeats it, and one of the two head settings."""
    for key in ("num_res_blocks", "transformer_depth"):
        if isinstance(given.get(key), list | tuple):
            if len(set(given[key])) != 1:
                raise ValueError(f"{key} is {list(given[key])}; only the same number on every level is supported.")
            given[key] = given[key][0]
    for key in ("channel_mult", "attention_resolutions"):
        if not isinstance(given[key], list | tuple):
            raise ValueError(f"{key} is {given[key]!r}; it must be a list of whole numbers.")
        given[key] = tuple(given[key])
    given["attention_resolutions"] = tuple(sorted(given["attention_resolutions"]))
    if given.get("num_head_channels", -1) > 0:
        given.setdefault("num_heads", -1)
    return given


def from_state_dict(state_dict: Mapping[str, Tensor]) -> UNetHyperParameters:
    """The hyper-parameters read off weight shapes under LDM's names; 8 heads, which shapes cannot tell.

    Raises:
        KeyError: for a tensor that every LDM UNet has and this file lacks.
    """
    levels = _levels(state_dict)
    first = state_dict["input_blocks.0.0.weight"]
    transformers = [k for k in state_dict if k.endswith("transformer_blocks.0.attn2.to_k.weight")]
    prefix = "middle_block.1."
    depth = len({k.split(".")[3] for k in state_dict if k.startswith(prefix + "transformer_blocks.")})
    return UNetHyperParameters(
        model_channels=first.shape[0],
        in_channels=first.shape[1],
        out_channels=state_dict["out.2.weight"].shape[0],
        channel_mult=tuple(_out_channels(state_dict, level[-1]) // first.shape[0] for level in levels),
        num_res_blocks=len(levels[0]),
        attention_resolutions=tuple(
            2**i
            for i, level in enumerate(levels)
            if any(k.startswith(f"input_blocks.{level[0]}.1.") for k in transformers)
        ),
        context_dim=state_dict[prefix + "transformer_blocks.0.attn2.to_k.weight"].shape[1],
        transformer_depth=depth,
        use_linear_in_transformer=state_dict[prefix + "proj_in.weight"].ndim == 2,
    )


def _levels(state_dict: Mapping[str, Tensor]) -> list[list[int]]:
    """The indices of the residual input blocks, level by level; a downsampling block ends a level."""
    levels: list[list[int]] = [[]]
    index = 1
    while any(k.startswith(f"input_blocks.{index}.0.") for k in state_dict):
        if f"input_blocks.{index}.0.op.weight" in state_dict:
            levels.append([])
        else:
            levels[-1].append(index)
        index += 1
    if not all(levels):
        raise KeyError("input_blocks.1.0.in_layers.0.weight")
    return levels


def _out_channels(state_dict: Mapping[str, Tensor], block: int) -> int:
    return state_dict[f"input_blocks.{block}.0.out_layers.3.weight"].shape[0]
