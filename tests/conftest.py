import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core import load_pipeline
from depthfm_core.__main__ import main
from depthfm_core.cli import predict

from .evaluating import evaluated, pairs  # noqa: F401  fixtures
from .labeling import labeled, photos, seen  # noqa: F401
from .malformed import good_files, refused  # noqa: F401
from .precomputing import output, precompute  # noqa: F401
from .trained_recipe import trained  # noqa: F401

GOLDEN = Path(__file__).parent / "golden"
os.environ.setdefault("ACCELERATE_USE_CPU", "true")  # trainings, in processes that tests start too
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several that share the cores: one thread, and in what it starts
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--write-locales", action="store_true", help="write locales/en from the nodes, then compare")
    parser.addoption("--write-interfaces", action="store_true", help="write interfaces.json from the nodes")


def pytest_configure(config):
    """Lets processes that share the tests (pytest-xdist) take the files in the order below."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Files with a ComfyUI come first: the last of them, of a minute each, would leave the other processes idle."""
    items.sort(key=lambda item: item.get_closest_marker("comfy") is None)


@pytest.fixture(scope="session")
def golden_dir():
    """Checkpoints, inputs and outputs of the published method on small random weights; see README.md there."""
    return GOLDEN


@pytest.fixture(scope="session")
def published_hparams():
    """The `ldm_hparams` of depthfm-v1.ckpt."""
    return {
        "image_size": 32,
        "in_channels": 8,
        "out_channels": 4,
        "model_channels": 320,
        "attention_resolutions": [4, 2, 1],
        "num_res_blocks": 2,
        "channel_mult": [1, 2, 4, 4],
        "num_heads": 8,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": True,
        "transformer_depth": 1,
        "context_dim": 1024,
        "legacy": False,
    }


@pytest.fixture(scope="session")
def micro(golden_dir, tmp_path_factory):
    """The folder of the toy models `whole.safetensors`, with an autoencoder, and `bare.safetensors`, without."""
    from .comfyui_graphs import save_toy_models

    folder = tmp_path_factory.mktemp("models")
    save_toy_models(golden_dir, folder)
    return folder


@pytest.fixture(scope="session")
def comfyui(micro, tmp_path_factory):
    """A running ComfyUI with the toy models and the photo of `comfyui_graphs`, the same for all files."""
    from .comfyui_graphs import picture_pixels
    from .comfyui_server import ComfyUI

    server = ComfyUI(tmp_path_factory.mktemp("comfyui"))
    try:
        for file in micro.iterdir():
            (server.base / "models" / "depthfm" / file.name).write_bytes(file.read_bytes())
        for name in ("picture.png", "example.png"):
            Image.fromarray(picture_pixels()).save(server.base / "input" / name)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def cli_model(golden_dir):
    """The options that name the small reference model."""
    vae = golden_dir / "micro-vae-diffusers.safetensors"
    return ("--model", str(golden_dir / "depthfm-micro-heads8.ckpt"), "--vae", str(vae))


@pytest.fixture(scope="module")
def cli_pipeline(cli_model):
    return load_pipeline(cli_model[1], cli_model[3])


@pytest.fixture
def caseless(monkeypatch):
    """Names that differ in the case of their letters alone are one, as on the disks of Windows and macOS."""

    def samefile(path, other):
        return os.path.realpath(path).casefold() == os.path.realpath(other).casefold()

    monkeypatch.setattr(os.path, "samefile", samefile)


@pytest.fixture
def read_only(monkeypatch):
    """Lets no file be made, as on a disk that is mounted for reading."""

    def touch(path, *_args, **_kwargs):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", touch)


@pytest.fixture
def loaded(cli_pipeline, monkeypatch):
    """Lets `predict` take the model that is loaded already."""
    monkeypatch.setattr(predict, "pipeline_from", lambda _args: cli_pipeline)


@pytest.fixture
def photo(tmp_path):
    down, across = np.mgrid[:36, :52]
    pixels = np.stack([down * 7, across * 4, (down * across) % 256], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def saved(photo, tmp_path, capsys):
    """Runs `predict` on the photo and returns what it printed and wrote."""

    def run(*options, inputs=(photo,), code=0):
        folder = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        assert (
            main(
                ["predict", *map(str, inputs), "--resolution", "32", "--steps", "2", "--output", str(folder), *options]
            )
            == code
        )
        printed = capsys.readouterr()
        return printed.out.splitlines(), printed.err, folder

    return run
