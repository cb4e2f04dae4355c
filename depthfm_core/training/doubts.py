"""What a recipe can ask for and hardly means. It is valid, so it is not refused but said, before anything is done."""

import logging

from .loop import LoopSettings
from .recipe import Recipe

_LOGGER = logging.getLogger(__name__)


def tell_doubts(recipe: Recipe) -> None:
    """Warns of warm-ups that never end, and of flow stages that draw what those drew that they start from."""
    if recipe.autoencoder.loop is not None:
        _tell_endless_warmup("autoencoder", recipe.autoencoder.loop)
    for name, stage in recipe.flow.items():
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
