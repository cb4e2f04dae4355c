"""Where in the output folder of a training the results of its stages lie."""

from pathlib import Path


def result_folder(output: Path, stage: str) -> Path:
    """Where a stage's results are."""
    return output.joinpath(*stage.split(".", 1))


def autoencoder_folder(output: Path) -> Path:
    """What stage autoencoder makes, as `load_codec` reads it."""
    return result_folder(output, "autoencoder")


def codec_config_path(output: Path) -> Path:
    """What stage autoencoder writes last."""
    return autoencoder_folder(output) / "config.json"


def network_path(output: Path, which: str) -> Path:
    """What stage flow.`which` writes."""
    return result_folder(output, f"flow.{which}") / "network.safetensors"


def latents_folder(output: Path, which: str) -> Path:
    """Where the shards of stage latents.`which` are."""
    return result_folder(output, f"latents.{which}")


def records_folder(output: Path) -> Path:
    """What each stage was made with."""
    return output / "recipes"


def state_of(result: Path) -> Path:
    """The state of the training that makes a result, beside it."""
    return result.with_name("state.pt")
