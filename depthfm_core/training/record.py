"""What each result was made with: the settings that it depends on, written down, and compared before it is used.

So are the weights that a stage goes on from, where nothing else would tell that they are others since.

How long and how fast to train is not among them: that belongs to the saved state, which watches over it itself. Nor is
which data there is, which may grow: `trained_on` watches over what a network saw of it. Nor the number of workers.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..model.fingerprint import fingerprint
from ..model.layouts import flatten_settings
from ..replacing import write_json
from .first_weights import find_start
from .places import network_path, records_folder, result_folder
from .recipe import Recipe
from .trained_on import compare_data

_FREE = ("loop", "workers", "datasets", "sky_is_far")  # the last one is of each data set, and in its shards
_WEIGHTS_OF = "weights of "
# By kind of stage, the parts of a recipe that its own work depends on; {} is the stage's name.
_FRAMES = tuple(f"frames.{name}" for name in ("held_out", "first_seed", "height_px", "width_px"))
_PARTS = {
    "autoencoder": ("autoencoder.model", "network.start", "photometry", "normalization", *_FRAMES),
    "latents": ("latents.{}", "autoencoder.path", "photometry", "normalization", *_FRAMES),
    "flow": ("flow.{}", "network"),
}


def provenance(recipe: Recipe) -> dict[str, Any]:
    """This project's version and the whole recipe, as JSON holds them."""
    return {"version": __version__, "recipe": json.loads(json.dumps(dataclasses.asdict(recipe)))}


def keep_record(recipe: Recipe, output: Path, stage: str) -> None:
    """Writes down what a stage is made with, before its first result; later compares, also the stages it builds on.

    Args:
        recipe: of this run.
        output: folder of all results.
        stage: one of `stage_names`.

    Raises:
        ValueError: a result that was made with other settings, which the message names.
    """
    compare_records(recipe, output, [stage])
    write_record(recipe, output, stage)


def compare_records(recipe: Recipe, output: Path, stages: Sequence[str]) -> None:
    """Compares what is there of some stages, and of those they build on, with the recipe; errors as above."""
    for name in dict.fromkeys(name for stage in stages for name in _needed(recipe, stage)):
        _compare(recipe, output, name)
        if name.startswith("flow."):
            compare_data(recipe, output, name.partition(".")[2], stages)


def write_record(recipe: Recipe, output: Path, stage: str) -> None:
    """Writes down what a stage is made with, unless there are results, and compares nothing; see `keep_record`."""
    if _has_parts(stage) and not _has_results(result_folder(output, stage)):
        path = _record(output, stage)
        path.parent.mkdir(exist_ok=True)
        write_json(path, _settings(recipe, stage) | _weights(recipe, output, stage))


def _compare(recipe: Recipe, output: Path, stage: str) -> None:
    folder, record = result_folder(output, stage), _record(output, stage)
    if not _has_results(folder) or not record.exists():
        return
    made = json.loads(record.read_text(encoding="utf-8"))
    now = _settings(recipe, stage) | _weights(recipe, output, stage)
    changed = [
        f"{name} {value!r} (now {now.get(name, 'something else')!r})"
        for name, value in made.items()
        if not _is_free(name)
        and (now[name] != value if name in now else not name.startswith(_WEIGHTS_OF))  # files may be gone by now
    ]
    if changed:
        raise ValueError(
            f"{folder} was made with {', '.join(changed)}. Use the old settings, delete that folder and what was made "
            "from it, or choose another output folder."
        )


def _needed(recipe: Recipe, stage: str) -> list[str]:
    """The stage and those whose results it builds on, as far as they keep records."""
    kind, _, which = stage.partition(".")
    if kind == "latents":
        return [stage, *([] if recipe.autoencoder.path else ["autoencoder"])]
    if kind == "flow":
        settings = recipe.flow[which]
        below = [
            *(f"latents.{name}" for name in settings.latents),
            *([f"flow.{settings.start}"] * bool(settings.start)),
        ]
        return [stage, *(name for other in below for name in _needed(recipe, other))]
    if kind == "export":
        return _needed(recipe, f"flow.{list(recipe.flow)[-1]}")
    return [stage] if _has_parts(stage) else []


def _has_parts(stage: str) -> bool:
    return stage.partition(".")[0] in _PARTS


def _has_results(folder: Path) -> bool:
    """Whether there is anything but pictures of checks, and what a killed process left half written."""
    return folder.is_dir() and any(
        path.suffix != ".png" and not (path.name.startswith(".") and path.suffix == ".tmp") for path in folder.iterdir()
    )


def _record(output: Path, stage: str) -> Path:
    return records_folder(output) / f"{stage}.json"


def _settings(recipe: Recipe, stage: str) -> dict[str, Any]:
    """The settings that a stage's own work depends on, under dotted names."""
    kind, _, which = stage.partition(".")
    parts = [part.format(which) for part in _PARTS[kind]]
    if kind == "flow" and recipe.frames.stream:  # its latents are made as it goes, and keep no record of their own
        made_with = [part.format(recipe.flow[which].latents[-1]) for part in _PARTS["latents"]]
        parts += [part for part in made_with if part != "frames.held_out"]
    return {
        name: value
        for name, value in flatten_settings(provenance(recipe)["recipe"]).items()
        if any(f"{name}.".startswith(f"{part}.") for part in parts) and not _is_free(name)
    }


def _is_free(name: str) -> bool:
    """Whether a setting, under its dotted name, may differ from the record's."""
    return not set(name.split(".")).isdisjoint(_FREE)


def _weights(recipe: Recipe, output: Path, stage: str) -> dict[str, str]:
    """Fingerprints of what a stage starts from or trains against, of files that are there.

    Latents on the disk know their autoencoder themselves.
    """
    kind, _, which = stage.partition(".")
    if kind == "autoencoder" and recipe.network.start:
        model, own = find_start(recipe.network, output)
        return _fingerprints({"network.start": own or model})
    return _fingerprints(_weights_of_flow(recipe, output, which)) if kind == "flow" else {}


def _weights_of_flow(recipe: Recipe, output: Path, which: str) -> dict[str, Path]:
    """A name in [network] may come to mean other weights, as "nano" does in another version of this project."""
    network, files = recipe.network, {}
    if start := recipe.flow[which].start:
        files[f"flow.{start}"] = network_path(output, start)
    elif network.start:
        files["network.start"] = find_start(network, output)[0]
    elif network.prior:
        prior = output / network.prior
        files["network.prior"] = prior / "unet" if (prior / "unet").is_dir() else prior
    if recipe.frames.stream:
        files["autoencoder"] = output / (recipe.autoencoder.path or "autoencoder/diffusion_pytorch_model.safetensors")
    return files


def _fingerprints(files: Mapping[str, Path]) -> dict[str, str]:
    return {f"{_WEIGHTS_OF}{name}": fingerprint(str(path)) for name, path in files.items() if path.exists()}
