"""What ships, and models by name: the one that does, and those that `download` fetches into the user's cache folder."""

import os
from dataclasses import dataclass
from pathlib import Path

NANO_PATH = Path(__file__).with_name("nano.safetensors")
EXAMPLE_PHOTO = Path(__file__).resolve().parents[1] / "examples" / "room.jpg"


@dataclass(frozen=True)
class Download:
    """A published model: where its file and its autoencoder come from, and under which terms."""

    url: str
    file_name: str
    vae_repository: str
    licence: str


DOWNLOADS = {
    "depthfm-v1": Download(
        url="https://ommer-lab.com/files/depthfm/depthfm-v1.ckpt",
        file_name="depthfm-v1.ckpt",
        vae_repository="stabilityai/sd-vae-ft-mse",
        licence="code MIT; weights derived from Stable Diffusion 2.1 (CreativeML Open RAIL++-M)",
    )
}
MODELS = ("nano", *DOWNLOADS)


def cache_folder(name: str) -> Path:
    """Where a downloaded model lies, or what else is kept: below $DEPTHFM_HOME, or below the user's cache folder."""
    home = os.environ.get("DEPTHFM_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "depthfm") / name


def find_model(model: str | Path) -> tuple[Path, Path | None]:
    """The file or folder of a model, given by name or path, and its autoencoder's folder where that is separate.

    That is so of downloaded models, and of diffusers' folders with a `vae/`. A name is text: `Path("nano")` and
    "./nano" are what lies there.

    Raises:
        ValueError: for a name that is not in `MODELS` and no path, or a model that was not downloaded yet.
    """
    if model == "nano":
        return NANO_PATH, None
    if model in DOWNLOADS:
        folder = cache_folder(model)
        file = folder / DOWNLOADS[model].file_name
        if not file.is_file():
            raise ValueError(f"{model} is not in {folder}; fetch it with `python -m depthfm_core download {model}`.")
        return file, folder / "vae"
    if not Path(model).exists():
        raise ValueError(f"There is no model {str(model)!r}; give a file, a folder, or one of {', '.join(MODELS)}.")
    path = Path(model)
    return path, path / "vae" if (path / "vae" / "config.json").is_file() else None
