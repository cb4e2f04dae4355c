"""What a flow stage was trained on: written down beside its settings, and compared before its result is used.

Data may be added at any time, and a training under way goes on with it. One that is done has not seen it, and the file
that is exported with today's recipe would claim that it has. So what is exported says how long and how fast it was
really trained, too.
"""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..replacing import write_json
from .frames import split_frames
from .loop import LoopSettings
from .places import codec_config_path, latents_folder, network_path, records_folder, state_of
from .precompute import plan_shards
from .recipe import Recipe
from .shards import data_set_of, find_shards, read_origin
from .state import settings_as_trained

_LOGGER = logging.getLogger(__name__)


def keep_data(recipe: Recipe, output: Path, which: str) -> None:
    """Writes down what stage flow.`which` trains on from now on; logs where it was trained on something else before."""
    path, now = _path(output, which), _data(recipe, output, which)
    if path.exists() and state_of(network_path(output, which)).exists():
        for difference in _differences(_read(path), now):
            _LOGGER.info("flow.%s goes on; until now it was trained %s", which, difference)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, now)


def compare_data(recipe: Recipe, output: Path, which: str, stages: Sequence[str] = ()) -> None:
    """Compares what the result of stage flow.`which` was trained on with the latents and shares that are there now.

    Latents that have been deleted are not missed, since the same command makes them again. Nothing is compared where
    there is no result, or one of a version that wrote nothing down.

    Args:
        recipe, output: as of `run_recipe`.
        which: the flow stage's name.
        stages: those of this run. Latents that they are to make are compared as if they were there, and a stage among
            them whose `state.pt` was deleted is begun anew, so nothing is compared.

    Raises:
        ValueError: other data sets, frames or shares, which the message names, or latents that cannot be read.
    """
    path, result = _path(output, which), network_path(output, which)
    anew = f"flow.{which}" in stages and not state_of(result).exists()
    if anew or not (result.exists() and path.exists()):
        return
    made, now = _read(path), _data(recipe, output, which)
    for name in recipe.flow[which].latents:
        if f"latents.{name}" in stages:
            _add_planned(now["latents"], made["latents"], recipe, output, name)
    differences = _differences(made, now)
    if differences:
        raise ValueError(
            f"{result.parent} is done and was trained {', '.join(differences)}. To train it again, delete that folder "
            "and what was made from it; to keep it, go back to the recipe and the frames that it was trained on and "
            "delete the shards of others, or choose another output folder."
        )


def as_trained(recipe: Recipe, output: Path) -> Recipe:
    """The recipe with the loops that the results were trained with, as far as their states are there."""
    flow = {
        name: replace(stage, loop=_loop_of(network_path(output, name), stage.loop))
        for name, stage in recipe.flow.items()
    }
    autoencoder = recipe.autoencoder
    if autoencoder.loop is not None:
        autoencoder = replace(autoencoder, loop=_loop_of(codec_config_path(output), autoencoder.loop))
    return replace(recipe, autoencoder=autoencoder, flow=flow)


def shares_of(recipe: Recipe, latents: Sequence[str]) -> dict[str, float]:
    """The shares of the data sets that some latents are of; nothing where data sets have no shares."""
    shares = recipe.frames.shares
    encoded = {label for name in latents for label in recipe.latents[name].datasets or shares}
    return {label: share for label, share in shares.items() if label in encoded}


def _loop_of(result: Path, loop: LoopSettings) -> LoopSettings:
    """The settings in the state beside a result; what a state of another version does not have stays as it is."""
    saved = settings_as_trained(state_of(result))
    return replace(loop, **{name: value for name, value in saved.items() if hasattr(loop, name)})


def _path(output: Path, which: str) -> Path:
    return records_folder(output) / f"flow.{which}.latents.json"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _data(recipe: Recipe, output: Path, which: str) -> dict[str, Any]:
    """Of each data set which frames the shards that are there hold, as they say themselves, and the shares; of a stream
    how many frames it renders.
    """
    if recipe.frames.stream:
        return {"latents": {}, "count": recipe.frames.count}
    names = recipe.flow[which].latents
    labels = [source.label for source in recipe.frames.sources]
    latents: dict[str, dict[str, object]] = {
        f"{name}/{label}": {} for name in names for label in recipe.latents[name].datasets or labels
    }
    for name in names:
        for path in find_shards(latents_folder(output, name)):
            if (data_set := f"{name}/{data_set_of(path)}") in latents:
                latents[data_set][path.name] = read_origin(path).get("frames")
    return {"latents": latents, "shares": shares_of(recipe, names)}


def _add_planned(
    latents: dict[str, dict[str, object]], made: dict[str, dict[str, object]], recipe: Recipe, output: Path, name: str
) -> None:
    """Adds the shards that stage latents.`name` is to make; one of a name in the record is taken to be that again."""
    try:
        frames, _ = split_frames(recipe.frames, output)
    except ValueError:  # data sets that are not there, of which stage frames may have some to render
        return
    for path, _ in plan_shards(frames, recipe.latents[name], latents_folder(output, name)):
        data_set = f"{name}/{data_set_of(path)}"
        latents[data_set].setdefault(path.name, made.get(data_set, {}).get(path.name))


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """How data differs, to be read after "was trained"."""
    before, after = old["latents"], new["latents"]
    differences = [f"without {name}" for name in sorted(after.keys() - before.keys())]
    differences += [f"with {name}, which the recipe does not have" for name in sorted(before.keys() - after.keys())]
    differences += [
        f"with other frames of {name} ({len(before[name])} shards, now {len(after[name])}; not {_first(others)})"
        for name in sorted(before.keys() & after.keys())
        if (others := after[name].items() - before[name].items())
    ]
    return differences + [
        f"with {name} {old[name]} (now {new[name]})" for name in ("shares", "count") if old.get(name) != new.get(name)
    ]


def _first(shards: Collection[tuple[str, object]]) -> str:
    """Names shards: all where there are few, of many the first ones."""
    names = sorted(name for name, _ in shards)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
