"""Runs a recipe: frames, autoencoder, latents, flow, export; each can be resumed and leaves its result in a folder.

OUTPUT/frames/              rendered frames (or wherever the recipe says)
OUTPUT/lists/NAME.txt       the frames of a data set that are complete, where the recipe wants these only
OUTPUT/autoencoder/         state.pt, config.json, diffusion_pytorch_model.safetensors, check-000500.png: a diffusers
                            folder (without the first and the last where it is taken out of an existing model); not
                            where the recipe names an existing autoencoder
OUTPUT/empty_text_embedding.npy   where the recipe names a text encoder, which the .txt beside it says
OUTPUT/latents/NAME/        shards
OUTPUT/flow/NAME/           state.pt, network.safetensors, check-000500.png
OUTPUT/events/STAGE/        TensorBoard's files of autoencoder and flow.NAME
OUTPUT/model.safetensors    what `load_pipeline` reads
OUTPUT/recipes/STAGE.json   the settings that a stage's results were made with
OUTPUT/recipes/flow.NAME.latents.json   the latents and shares that a network was trained on

Several processes, started by `accelerate launch` or `torchrun`, share latents and flow; the first one does the rest.
They see one output folder.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch

from ..model.codec import LatentCodec
from ..model.fingerprint import fingerprint
from ..model.writing import save_tensors
from ..pipeline import DepthFMPipeline
from ..share import ALL, Share, this_share
from .autoencoder import AutoencoderData, train_autoencoder
from .calibration import measure_spread_scale
from .engine import training_device
from .export import export, is_exported, save_codec
from .first_weights import RESULT, start_codec
from .frames import check_data_sets, make_frames, open_stream, split_frames, tell_frames
from .held_out import spread
from .inputs import check_inputs
from .latents import LatentSet
from .places import autoencoder_folder, codec_config_path, latents_folder, network_path, result_folder
from .precompute import check_sky, describe, plan_shards, write_latents
from .recipe import Recipe
from .recipe_warnings import warn_of_frozen_views, warn_of_recipe
from .record import compare_records, keep_record, provenance
from .results import codec_of, codec_path, network_after, network_so_far
from .scaling import measure_scaling_factor
from .state import is_made, only_one, tell_made
from .stream import FrameStream
from .streamed import StreamedLatents, StreamedViews
from .trained_on import as_trained, keep_data, shares_of
from .validation import encode_held_out
from .velocity import FlowSettings, train_velocity

_LOGGER = logging.getLogger(__name__)
_CHECKED_PICTURES = 32  # held-out frames in an autoencoder check
_CALIBRATED_FRAMES = 40  # held-out frames that the ensemble's spread is compared on


def stage_names(recipe: Recipe) -> list[str]:
    """The stages in their order, as `--stage` takes them."""
    latents = [] if recipe.frames.stream else [f"latents.{name}" for name in recipe.latents]
    flow = [f"flow.{name}" for name in recipe.flow]
    autoencoder = [] if recipe.autoencoder.path else ["autoencoder"]
    return ["frames", *autoencoder, *latents, *flow, "export"]


def run_recipe(
    recipe: Recipe, output: Path, stage: str | None = None, started: Callable[[], None] = lambda: None
) -> None:
    """Runs all stages in order, or one whose inputs are there; what is finished already is not done again.

    Args:
        recipe: all settings.
        output: folder for all results; made if missing.
        stage: one of `stage_names`, or None for all.
        started: called by the first process once the recipe has passed all checks.

    Raises:
        ValueError: for an unknown stage, a stage whose inputs are missing, results made with other settings, another
            run that trains the same stage, or as `check_inputs`, which has the other errors.
        ImportError: when frames have to be rendered and the generator's libraries are missing.
    """
    names = stage_names(recipe)
    if stage is not None and stage not in names:
        raise ValueError(f"Unknown stage {stage!r}; choose one of {', '.join(names)}.")
    names = names if stage is None else [stage]
    output.mkdir(parents=True, exist_ok=True)
    share = this_share()
    with open_stream(recipe.frames, share) as stream:
        if share.is_first:
            check_inputs(recipe, output, names)
            compare_records(recipe, output, names)
            _tell_idle_latents(recipe)
            warn_of_recipe(recipe, output, names)
            started()
        share.wait()
        for name in names:
            _LOGGER.info("stage %s", name)
            kind, _, which = name.partition(".")
            with only_one(result_folder(output, name)) if share.is_first and kind in TRAINED else nullcontext():
                share.wait()  # no process begins before the first one knows that no other run trains there
                keep_record(recipe, output, name)
                if share.is_first or kind in SHARED:
                    STAGES[kind](recipe, output, which, stream)
                share.wait()


def _tell_idle_latents(recipe: Recipe) -> None:
    for name in sorted(set(recipe.latents).difference(*(stage.latents for stage in recipe.flow.values()))):
        _LOGGER.info("no flow stage trains on [latents.%s]", name)


def _make_frames(recipe: Recipe, output: Path, _which: str, _stream: FrameStream | None) -> None:
    make_frames(recipe.frames, output)


def prepare_frames(recipe: Recipe, output: Path, share: Share) -> None:
    """Stage frames, once for all processes of a share; before it, what stands in the way of encoding them.

    Raises:
        ValueError: no autoencoder that can be read, or as `check_data_sets`, known before hours of rendering.
    """
    codec_of(recipe, output)
    if share.is_first:
        check_data_sets(recipe.frames, output)
        make_frames(recipe.frames, output)
    share.wait()


def _make_autoencoder(recipe: Recipe, output: Path, _which: str, stream: FrameStream | None) -> None:
    """Trains it, or takes it out of the model that training goes on from."""
    if recipe.autoencoder.loop is not None:
        _train_autoencoder(recipe, output, stream)
    elif not codec_config_path(output).exists():
        save_codec(start_codec(recipe.network, output), autoencoder_folder(output))


def _train_autoencoder(recipe: Recipe, output: Path, stream: FrameStream | None) -> None:
    folder, loop = autoencoder_folder(output), recipe.autoencoder.loop
    if is_made(codec_config_path(output), asdict(loop)):
        tell_made("autoencoder", codec_config_path(output), asdict(loop))
        return
    train, held_out = split_frames(recipe.frames, output)
    if stream is not None:
        stream.wait_for(recipe.frames.stream.first_frames)
    checked = spread(held_out, _CHECKED_PICTURES)
    data = AutoencoderData(train or held_out, checked, recipe.photometry, recipe.normalization, stream)
    codec_config_path(output).unlink(missing_ok=True)  # of an earlier training; see `is_made`
    autoencoder = train_autoencoder(recipe.autoencoder.model, data, loop, folder, output / "events" / "autoencoder")
    save_codec(
        LatentCodec(autoencoder, measure_scaling_factor(autoencoder, data, recipe.autoencoder.model.crop_px)), folder
    )


def prepare_latents(
    recipe: Recipe, output: Path, which: str, share: Share = ALL, device: str | torch.device = "cpu"
) -> int:
    """Stage latents.`which`, or a share of its shards; how many there are in all.

    Raises:
        ValueError: no autoencoder, no frames, or as `write_latents`, which has the other errors.
    """
    made_with = recipe.latents[which], recipe.photometry, recipe.normalization, codec_path(recipe, output)
    train, held_out = split_frames(recipe.frames, output)
    if share.is_first:
        labels = recipe.latents[which].datasets
        tell_frames(recipe.frames, output, train, held_out, labels)
        warn_of_frozen_views(recipe, output, which, sum(not labels or frame.data_set in labels for frame in train))
    return write_latents(train, *made_with, latents_folder(output, which), share=share, device=device)


def _write_latents(recipe: Recipe, output: Path, which: str, _stream: FrameStream | None) -> None:
    prepare_latents(recipe, output, which, this_share(), training_device())


def _train_flow(recipe: Recipe, output: Path, which: str, stream: FrameStream | None) -> None:
    settings, share = recipe.flow[which], this_share()
    result = network_path(output, which)
    if is_made(result, asdict(settings.loop)):
        tell_made(f"flow.{which}", result, asdict(settings.loop))
        return
    share.wait()  # until all have looked
    network = network_after(recipe, output, settings.start)
    codec = codec_of(recipe, output)
    view = recipe.latents[settings.latents[-1]].view
    if stream is None:
        latents = _latent_set(recipe, output, settings, codec)
        _LOGGER.info("flow.%s trains on %d views", which, len(latents))
    else:
        stream.wait_for(recipe.frames.stream.first_frames)
        views = StreamedViews(stream, recipe.photometry, recipe.normalization)
        latents = StreamedLatents(views, view, recipe.frames.stream, codec_of(recipe, output))
    held_out = None
    if share.is_first:
        held_out = encode_held_out(split_frames(recipe.frames, output)[1], view, codec.to(training_device()))
        codec.cpu()
        keep_data(recipe, output, which)
        result.unlink(missing_ok=True)  # of an earlier training; see `is_made`
    train_velocity(network, latents, settings, held_out, codec, result.parent, output / "events" / f"flow.{which}")
    if share.is_first:
        save_tensors(network.unet.state_dict(), result)


def _latent_set(recipe: Recipe, output: Path, settings: FlowSettings, codec: LatentCodec) -> LatentSet:
    """The latents that a flow stage names, which must have been made with the recipe's settings, all of them."""
    folders = [latents_folder(output, name) for name in settings.latents]
    made_with = recipe.photometry, recipe.normalization, codec
    origins = [describe(recipe.latents[name], *made_with) for name in settings.latents]
    latents = LatentSet(folders, shares_of(recipe, settings.latents), origins)
    if this_share().is_first:
        _check_shards(recipe, output, settings.latents, latents)
    return latents


def _check_shards(recipe: Recipe, output: Path, names: Sequence[str], latents: LatentSet) -> None:
    """A run of `precompute` that was killed, or goes on elsewhere, leaves whole shards of a part of the frames; one of
    another recipe may have taken their holes for something else.
    """
    train, _ = split_frames(recipe.frames, output)
    made_shards = {shard.path: shard for shard in latents.shards}
    for name in names:
        folder = latents_folder(output, name)
        planned = plan_shards(train, recipe.latents[name], folder)
        missing = sorted({path for path, _ in planned} - made_shards.keys())
        if missing:
            made = len(planned) - len(missing)
            raise ValueError(
                f"{folder} has {made} of {len(planned)} shards; {missing[0].name} is missing. Run "
                f"`python -m depthfm_core precompute` or stage latents.{name} for the rest."
            )
        for path, frames in planned:
            check_sky(made_shards[path], frames, recipe.latents[name])


def _export(recipe: Recipe, output: Path, _which: str, _stream: FrameStream | None) -> None:
    last, settings = list(recipe.flow.items())[-1]
    result, made_by = network_path(output, last), provenance(as_trained(recipe, output))
    if result.exists():
        made_by["network"] = fingerprint(str(result))
        if is_exported(output / RESULT, made_by):
            tell_made("export", output / RESULT, {})
            return
    network, unfinished = network_so_far(recipe, output, last)
    device = training_device()
    network, codec = network.eval().to(device), codec_of(recipe, output).to(device)
    frames = spread(split_frames(recipe.frames, output)[1], _CALIBRATED_FRAMES)
    _LOGGER.info("measuring an ensemble's spread on %d held-out frames, which takes a while on a CPU", len(frames))
    multiple = DepthFMPipeline(network, codec, settings.noising_step, processing_resolution=0).multiple
    view = recipe.export.view(recipe.latents[settings.latents[-1]].view, multiple)
    spread_scale = measure_spread_scale(network, codec, encode_held_out(frames, view, codec), settings.noising_step)
    network, codec = network.cpu(), codec.cpu()
    resolution = min(view.height_px, view.width_px)
    made_by |= unfinished
    export(network, codec, settings.noising_step, resolution, spread_scale, output / RESULT, made_by)


STAGES: dict[str, Callable[[Recipe, Path, str, FrameStream | None], object]] = {
    "frames": _make_frames,
    "autoencoder": _make_autoencoder,
    "latents": _write_latents,
    "flow": _train_flow,
    "export": _export,
}
TRAINED = ("autoencoder", "flow")  # the kinds that one run at a time works on
SHARED = ("latents", "flow")  # the kinds that all processes work on; the others wait for the first one
