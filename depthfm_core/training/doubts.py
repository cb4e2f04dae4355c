"""What a recipe can ask for and hardly means. It is valid, so it is not refused but said, before anything is done."""

import logging
from collections.abc import Sequence
from pathlib import Path

from .inputs import codec_config_path, network_path
from .loop import LoopSettings
from .recipe import Recipe

_LOGGER = logging.getLogger(__name__)


def tell_doubts(recipe: Recipe, output: Path, stages: Sequence[str]) -> None:
    """Warns of warm-ups that never end, and of flow stages that draw what those drew that they start from.

    Only of `stages` that are to begin: of one that has a state in the output folder neither may change any more.
    """
    if recipe.autoencoder.loop is not None and "autoencoder" in stages and _begins(codec_config_path(output)):
        _tell_endless_warmup("autoencoder", recipe.autoencoder.loop)
    for name, stage in recipe.flow.items():
        if f"flow.{name}" not in stages or not _begins(network_path(output, name)):
            continue
        _tell_endless_warmup(f"flow.{name}", stage.loop)
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


def _begins(result: Path) -> bool:
    return not result.with_name("state.pt").exists()


def _tell_endless_warmup(stage: str, loop: LoopSettings) -> None:
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
