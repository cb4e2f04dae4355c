"""A training recipe: one TOML file whose tables are the settings of each stage, read into frozen dataclasses.

Every key is a field of the dataclass beside its consumer, and a key that is not is an error: a misspelled setting must
not train for an hour with the default.
"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ..model.hyperparameters import UNetHyperParameters
from ..model.parameterization import DEFAULT_PARAMETERIZATION, check_parameterization
from .augment import PhotometricSettings
from .autoencoder import AutoencoderSettings
from .export import ExportSettings
from .frames import FrameSettings
from .latents import LatentSettings
from .loop import LoopSettings
from .sources import check_name
from .stream import StreamSettings
from .target import NormalizationSettings
from .velocity import FlowSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


_CHANNELS = (8, 4)  # of a velocity network, in and out


@dataclass(frozen=True)
class AutoencoderStage:
    """The autoencoder: an existing one, or how to train one.

    Attributes:
        path: an autoencoder that `load_codec` reads, absolute or below the output folder.
        loop, model: how to train one, and on what. Without a path and this, it is the one that `NetworkSettings.start`
            brings.

    Raises:
        ValueError: for both `path` and `loop`, a `model` that nothing trains, gradient checkpointing, or micro-batches.
    """

    path: str = ""
    loop: LoopSettings | None = None
    model: AutoencoderSettings = AutoencoderSettings()

    def __post_init__(self) -> None:
        if self.path and self.loop is not None:
            raise ValueError(
                "[autoencoder] has both; it needs either path, an existing autoencoder, or [autoencoder.loop]."
            )
        if self.loop is None and self.model != AutoencoderSettings():
            raise ValueError(
                "[autoencoder.model] says how to train one, and there is no [autoencoder.loop]; leave it out."
            )
        if self.loop is not None and self.loop.micro_batch_size:
            raise ValueError(
                "[autoencoder.loop] cannot have micro_batch_size, since its whitening loss is of a batch as a whole; "
                "choose a smaller batch_size."
            )
        # diffusers' encoder does not scale pictures to [0, 1] then, as it does everywhere else.
        if self.loop is not None and self.loop.gradient_checkpointing:
            raise ValueError("[autoencoder.loop] cannot have gradient_checkpointing; choose a smaller batch_size.")


@dataclass(frozen=True)
class NetworkSettings:
    """The velocity network: its shape, its first weights, and the constant that stands for the empty prompt.

    Files and folders are absolute or below the output folder.

    Attributes:
        unet: the shape in LDM's terms. `num_heads = 8` is the published DepthFM's; Stable Diffusion 2.1 itself has
            `num_head_channels = 64` with `num_heads = -1`.
        start: a DepthFM to go on from, one of `MODELS` or what `load_checkpoint` reads. It brings all that the other
            settings say, and, if bundled or downloaded with it, its autoencoder.
        parameterization: how the network is asked for the velocity, one of `PARAMETERIZATIONS`.
        prior: an image model to start from, as `read_prior` takes it; "" = random weights.
        keep_heads: whether the prior's attention heads must be those of `unet`.
        null_text: the empty prompt's embedding, as `read_null_text_file` takes it.
        text_encoder: folder of the text encoder that makes that embedding, once; see `embed_empty_prompt`.
        null_text_tokens: length of the random embedding that is used where neither is given.
        seed: of random weights and that embedding.

    Raises:
        ValueError: for an unknown parameterization, both embeddings, a prior without the one that it knows, no shape or
            one of other channels, a start with other settings beside it, or settings of what is not there.
    """

    unet: UNetHyperParameters | None = None
    start: str = ""
    parameterization: str = DEFAULT_PARAMETERIZATION
    prior: str = ""
    keep_heads: bool = True
    null_text: str = ""
    text_encoder: str = ""
    null_text_tokens: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        check_parameterization(self.parameterization)
        beside = [f.name for f in dataclasses.fields(self) if f.name != "start" and getattr(self, f.name) != f.default]
        if self.start and beside:
            raise ValueError(f"[network] has start, a model that brings {', '.join(beside)}; leave these out.")
        if not self.start and self.unet is None:
            raise ValueError("[network] needs [network.unet], the network's shape, or start, a DepthFM to go on from.")
        if self.null_text and self.text_encoder:
            raise ValueError("[network] has null_text and text_encoder; set one of them.")
        if self.unet and (self.unet.in_channels, self.unet.out_channels) != _CHANNELS:
            raise ValueError(
                f"[network.unet] has in_channels {self.unet.in_channels} and out_channels {self.unet.out_channels}; a "
                f"DepthFM takes x_t and the image latent, {_CHANNELS[0]}, and gives a velocity, {_CHANNELS[1]}. Leave "
                "them out."
            )
        if (self.null_text or self.text_encoder) and self.null_text_tokens != NetworkSettings.null_text_tokens:
            raise ValueError("[network] has null_text_tokens, of a random embedding, beside a real one; leave it out.")
        if not self.prior and not self.keep_heads:
            raise ValueError("[network] has keep_heads, which is of a prior's heads, and no prior; leave it out.")
        if self.prior and not (self.null_text or self.text_encoder):
            raise ValueError(
                "[network] has a prior, which knows the text encoder's embedding of the empty prompt; set text_encoder "
                "to that encoder's folder, or null_text to a file that holds the embedding."
            )


@dataclass(frozen=True)
class Recipe:
    """All settings of a training; `flow` stages run in the order of the file, and the last one is exported.

    Raises:
        ValueError: no autoencoder, a name that `check_name` refuses, latents of an unknown data set, a flow stage of
            latents or a start that do not come before it, or depth that is not normalized as log depth.
    """

    network: NetworkSettings
    latents: dict[str, LatentSettings]
    flow: dict[str, FlowSettings]
    autoencoder: AutoencoderStage = AutoencoderStage()
    frames: FrameSettings = FrameSettings()
    photometry: PhotometricSettings = PhotometricSettings()
    normalization: NormalizationSettings = NormalizationSettings()
    export: ExportSettings = ExportSettings()

    def __post_init__(self) -> None:
        trained = self.autoencoder.loop is not None
        if not (trained or self.autoencoder.path or self.network.start):
            raise ValueError("[autoencoder] needs either path, an existing autoencoder, or [autoencoder.loop].")
        if trained and self.network.start:
            raise ValueError(
                f"[network] starts from {self.network.start!r}, which knows the latents of its own autoencoder, and "
                "[autoencoder.loop] trains another; leave that out."
            )
        for table, names in (("latents", self.latents), ("flow", self.flow)):
            for name in names:
                check_name(f"a name in [{table}.NAME]", name)
        labels = [source.label for source in self.frames.sources]
        for name, latents in self.latents.items():
            if self.frames.stream:
                _refuse_what_a_stream_does_not_do(name, latents)
            strange = [label for label in latents.datasets if label not in labels]
            if strange:
                raise ValueError(f"[latents.{name}] names data sets {strange}; [frames] has {', '.join(labels)}.")
        earlier: list[str] = []
        for name, stage in self.flow.items():
            unknown = [latents for latents in stage.latents if latents not in self.latents]
            if unknown or not stage.latents:
                raise ValueError(f"[flow.{name}] needs latents out of {', '.join(self.latents)}; got {stage.latents}.")
            if stage.start and stage.start not in earlier:
                raise ValueError(f"[flow.{name}] starts from {stage.start!r}, which is no flow stage before it.")
            _refuse_more_than_is_kept(name, stage, self.frames.stream)
            earlier.append(name)
        if self.normalization.space != "log":
            raise ValueError(
                f"[normalization] has space {self.normalization.space!r}; a DepthFM's depth latent is of log depth. "
                "`ablate` compares the two."
            )
        if not self.flow:
            raise ValueError("The recipe has no [flow.NAME] table; add one.")


def _refuse_what_a_stream_does_not_do(name: str, latents: LatentSettings) -> None:
    given = [f.name for f in dataclasses.fields(latents) if f.name != "view" and getattr(latents, f.name) != f.default]
    if given:
        raise ValueError(
            f"[latents.{name}] has {', '.join(given)}, which is for latents on the disk; with [frames.stream] only the "
            "view counts. Leave it out."
        )


def _refuse_more_than_is_kept(name: str, stage: FlowSettings, stream: StreamSettings | None) -> None:
    if stream and (fresh := stream.fresh_views(stage.loop.batch_size)) > stream.kept_views:
        raise ValueError(
            f"A step of [flow.{name}] encodes {fresh} views and [frames.stream] has kept_views {stream.kept_views}; "
            "raise kept_views, or lower fresh_share or batch_size."
        )


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file.

    Raises:
        ValueError: no UTF-8, broken TOML, an unknown or missing key, or a value of another type, with the table's name.
        OSError: a file that cannot be read.
    """
    try:
        table = tomllib.loads(read_recipe_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}.") from error
    return _from_table(Recipe, table, str(path))


def read_recipe_text(path: Path) -> str:
    """What is in a recipe's file; editors on Windows may begin it with a mark. Errors: `read_recipe`."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8.") from error


def shorten(recipe: Recipe, num_steps: int) -> Recipe:
    """The recipe with at most so many steps in each training, to see whether it runs; a warm-up ends before the last.

    Raises:
        ValueError: for less than one step.
    """

    def short(loop: LoopSettings) -> LoopSettings:
        if loop.num_steps <= num_steps:
            return loop
        return dataclasses.replace(loop, num_steps=num_steps, warmup_steps=min(loop.warmup_steps, num_steps - 1))

    flow = {name: dataclasses.replace(stage, loop=short(stage.loop)) for name, stage in recipe.flow.items()}
    autoencoder = recipe.autoencoder
    if autoencoder.loop is not None:
        autoencoder = dataclasses.replace(autoencoder, loop=short(autoencoder.loop))
    return dataclasses.replace(recipe, autoencoder=autoencoder, flow=flow)


def _from_table(kind: type, table: object, where: str) -> Any:
    """A dataclass from a table, recursively."""
    if not isinstance(table, dict):
        raise ValueError(f"{where} must be a table, not {table!r}.")
    types = get_type_hints(kind)
    unknown = sorted(set(table) - set(types))
    if unknown:
        raise ValueError(f"{where} has unknown keys {', '.join(unknown)}; known are {', '.join(types)}.")
    values = {name: _convert(types[name], value, f"{where}: {name}") for name, value in table.items()}
    try:
        return kind(**values)
    except TypeError as error:  # a missing key
        raise ValueError(f"{where} is incomplete: {error}.") from error


def _convert(kind: Any, value: object, where: str) -> object:
    """A TOML value as the type of a field: a table, a list, or a plain value."""
    if isinstance(kind, UnionType):
        kind = get_args(kind)[0]  # X | None, where None is a table that is not there
    if dataclasses.is_dataclass(kind):
        return _from_table(kind, value, where)
    if get_origin(kind) is dict:
        inner = get_args(kind)[1]
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be a table of tables, not {value!r}.")
        return {name: _from_table(inner, table, f"{where}.{name}") for name, table in value.items()}
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_convert(get_args(kind)[0], item, where) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} is {value!r}; expected {kind}.")
    return value
