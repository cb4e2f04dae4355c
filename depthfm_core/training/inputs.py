"""Whether what a recipe names is there and fits, so that a run that cannot work ends before hours of rendering."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ..model.codec import load_codec
from ..model.layouts import NULL_TEXT
from ..share import this_share
from .engine import check_precision, training_device
from .first_weights import check_start, find_null_text, network_shape
from .frames import check_data_sets
from .loop import check_processes
from .lora import check_lora
from .places import codec_config_path, latents_folder, network_path, state_of
from .prior import check_prior
from .recipe import Recipe
from .shards import find_shards
from .state import grows, is_made, saved_settings
from .velocity import FlowSettings

_NEED_AUTOENCODER = ("latents", "flow", "export")


def check_inputs(recipe: Recipe, output: Path, stages: Sequence[str]) -> None:
    """Looks at all that the stages read and that no stage makes; for trainings that are done it may be gone.

    A text encoder is asked for the empty prompt's embedding here, once, since that alone tells whether it fits.

    Args:
        recipe: all settings.
        output: folder of all results.
        stages: those that are to run, of `stage_names`.

    Raises:
        CheckpointError: for a start, prior, autoencoder, text encoder or embedding that cannot be read or does not fit.
        ValueError: for what is not there, a data set with nothing left to train on, what this machine or the network
            cannot do, and a longer training of what others were made from.
        ModuleNotFoundError: for a package that is missing.
    """
    if recipe.network.start:
        noising_steps = {name: stage.noising_step for name, stage in recipe.flow.items()}
        check_start(recipe.network, output, noising_steps, brings_codec=not recipe.autoencoder.path)
    _check_there(recipe, output, stages)
    if _reads_autoencoder(recipe, stages):
        load_codec(output / recipe.autoencoder.path)
    loop = recipe.autoencoder.loop
    if loop and "autoencoder" in stages and not is_made(codec_config_path(output), asdict(loop)):
        check_precision(loop.mixed_precision, training_device())
    todo = {
        name: settings
        for name, settings in recipe.flow.items()
        if f"flow.{name}" in stages and not is_made(network_path(output, name), asdict(settings.loop))
    }
    _check_longer(recipe, output, stages)
    if todo:
        _check_flow(recipe, output, todo)
    if todo or any(stage.startswith("latents.") for stage in stages):
        check_data_sets(recipe.frames, output)


def _reads_autoencoder(recipe: Recipe, stages: Sequence[str]) -> bool:
    return bool(recipe.autoencoder.path) and any(stage.startswith(_NEED_AUTOENCODER) for stage in stages)


def _check_there(recipe: Recipe, output: Path, stages: Sequence[str]) -> None:
    """Names the models of others that are missing, all at once, since each is gigabytes to fetch."""
    begun = [name for name in recipe.flow if f"flow.{name}" in stages and not network_path(output, name).exists()]
    named = {"path in [autoencoder]": recipe.autoencoder.path if _reads_autoencoder(recipe, stages) else ""}
    if any(not recipe.flow[name].start for name in begun):
        named["prior in [network]"] = recipe.network.prior
    if begun and not (output / f"{NULL_TEXT}.npy").exists():
        named["text_encoder in [network]"] = recipe.network.text_encoder
    missing = [f"{output / name} ({where})" for where, name in named.items() if name and not (output / name).exists()]
    if missing:
        raise ValueError(
            f"There is no {' and no '.join(missing)}; docs/training.md says where the models of its recipes come from."
        )


def _check_longer(recipe: Recipe, output: Path, stages: Sequence[str]) -> None:
    """Refuses to go on with a training whose result others were made from, which would be of weights that are gone."""
    loops = {f"flow.{name}": (network_path(output, name), stage.loop) for name, stage in recipe.flow.items()}
    if recipe.autoencoder.loop:
        loops["autoencoder"] = (codec_config_path(output), recipe.autoencoder.loop)
    for stage in loops.keys() & set(stages):
        result, loop = loops[stage]
        saved, later = saved_settings(state_of(result)), _made_from(recipe, output, stage)
        if saved and result.exists() and later and grows(saved, asdict(loop)):
            raise ValueError(
                f"[{stage}.loop] has num_steps {loop.num_steps}, and {', '.join(later)} hold its result, of "
                f"{saved['num_steps']} steps; go back to these, add a flow stage that starts from it, or delete what "
                "was made from it."
            )


def _made_from(recipe: Recipe, output: Path, stage: str) -> list[str]:
    """The stages with results that the weights of another stage are in, directly."""
    kind, _, which = stage.partition(".")
    begun = [name for name in recipe.flow if state_of(network_path(output, name)).exists()]
    if kind == "flow":
        return [f"flow.{name}" for name in begun if recipe.flow[name].start == which]
    encoded = [f"latents.{name}" for name in recipe.latents if find_shards(latents_folder(output, name))]
    return [*encoded, *(f"flow.{name}" for name in begun)]


def _check_flow(recipe: Recipe, output: Path, todo: Mapping[str, FlowSettings]) -> None:
    network, shape = recipe.network, network_shape(recipe.network, output)
    if network.prior and not all(settings.start for settings in todo.values()):
        check_prior(output / network.prior, shape, keep_heads=network.keep_heads)
    find_null_text(network, output)
    for settings in todo.values():
        check_processes(settings.loop, this_share().count)
        check_precision(settings.loop.mixed_precision, training_device())
        if settings.lora:
            check_lora(settings.lora, shape)
