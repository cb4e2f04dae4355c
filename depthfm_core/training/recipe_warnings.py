"""What a recipe can ask for and hardly means. It is valid, so it is not refused but said, before anything is done."""

import logging
from collections.abc import Sequence
from pathlib import Path

from .first_weights import latents_apart
from .loop import LoopSettings
from .places import codec_config_path, network_path, state_of
from .recipe import Recipe

_LOGGER = logging.getLogger(__name__)
_LATENTS_APART = 0.1  # half precision and bfloat16 make less of a difference
_MANY_DRAWS = 10  # of one view


def warn_of_recipe(recipe: Recipe, output: Path, stages: Sequence[str]) -> None:
    """Warns of warm-ups that never end, of flow stages that draw what those drew that they start from, and of a start
    in latents that it does not know.

    Only of `stages` that are to begin: of one that has a state in the output folder neither may change any more.
    """
    if recipe.autoencoder.loop is not None and "autoencoder" in stages and _begins(codec_config_path(output)):
        _warn_of_endless_warmup("autoencoder", recipe.autoencoder.loop)
    begun = [name for name in recipe.flow if f"flow.{name}" in stages and _begins(network_path(output, name))]
    if begun and recipe.network.start and recipe.autoencoder.path:
        _warn_of_other_latents(recipe, output)
    for name in begun:
        stage = recipe.flow[name]
        _warn_of_endless_warmup(f"flow.{name}", stage.loop)
        for earlier in _stages_before(recipe, name):
            alike = recipe.flow[earlier].loop.seed == stage.loop.seed
            if alike and set(recipe.flow[earlier].latents) & set(stage.latents):
                _LOGGER.warning(
                    "[flow.%s.loop] has seed %s, as flow.%s before it, and draws its views, noise and times once more; "
                    "give it another seed",
                    name,
                    stage.loop.seed,
                    earlier,
                )


def warn_of_frozen_views(recipe: Recipe, output: Path, which: str, frames: int) -> None:
    """Warns of flow stages that are to learn the same random view of a picture again and again.

    Args:
        recipe, output: as of `run_recipe`.
        which: the latents that are to be made.
        frames: how many frames they are of.
    """
    settings = recipe.latents[which]
    varying = {"crop and mirroring": settings.view.varies, "change of its colors": recipe.photometry.changes_pictures}
    if settings.views_per_frame > 1 or not any(varying.values()):
        return
    for name, stage in recipe.flow.items():
        draws = stage.loop.num_steps * stage.loop.batch_size / max(1, frames)
        if stage.latents == (which,) and draws > _MANY_DRAWS and _begins(network_path(output, name)):
            _LOGGER.warning(
                "flow.%s draws each of %d frames %d times, always with the same %s; raise views_per_frame in "
                "[latents.%s]",
                name,
                frames,
                draws,
                " and the same ".join(what for what, varies in varying.items() if varies),
                which,
            )


def _begins(result: Path) -> bool:
    return not state_of(result).exists()


def _warn_of_other_latents(recipe: Recipe, output: Path) -> None:
    apart = latents_apart(recipe.network, output, output / recipe.autoencoder.path)
    if apart > _LATENTS_APART:
        _LOGGER.warning(
            "[autoencoder] has path %s, whose latents are %.0f %% off those that %s, [network] start, knows by its own "
            "autoencoder; leave path out, unless the network is to learn other latents from the beginning",
            recipe.autoencoder.path,
            100 * apart,
            recipe.network.start,
        )


def _warn_of_endless_warmup(stage: str, loop: LoopSettings) -> None:
    if loop.warmup_steps >= loop.num_steps:
        _LOGGER.warning(
            "[%s.loop] has warmup_steps %s and num_steps %s, so its learning rate never reaches %s; lower warmup_steps",
            stage,
            loop.warmup_steps,
            loop.num_steps,
            loop.learning_rate,
        )


def _stages_before(recipe: Recipe, name: str) -> list[str]:
    """The flow stage that one starts from, the one before that, and so on."""
    start = recipe.flow[name].start
    return [start, *_stages_before(recipe, start)] if start else []
