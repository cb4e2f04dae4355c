"""Fixtures of the tests of `precompute`: an output folder with frames and an autoencoder, and the command on it."""

import pytest

from depthfm_core.__main__ import main
from depthfm_core.data.folder import write_frame
from depthfm_core.model.codec import LatentCodec
from depthfm_core.training.autoencoder import AutoencoderSettings, build_autoencoder
from depthfm_core.training.export import save_codec

from .test_training_data import scene

RECIPE = """
[frames]
held_out = 1
[autoencoder]
path = "codec"
[latents.small]
frames_per_shard = 2
views_per_frame = 2
view = { height_px = 16, width_px = 24 }
[latents.large]
frames_per_shard = 4
format = "webdataset"
view = { height_px = 24, width_px = 32 }
[network.unet]
model_channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
attention_resolutions = [2]
context_dim = 8
[flow.main]
latents = ["small"]
[flow.main.loop]
num_steps = 1
batch_size = 2
learning_rate = 1e-3
"""


@pytest.fixture
def output(tmp_path):
    """The output folder of a recipe with six frames, one of them held out, and an autoencoder."""
    folder = tmp_path / "out"
    (folder / "frames").mkdir(parents=True)
    for seed in range(6):
        write_frame(folder / "frames" / f"{seed:03d}", scene(seed))
    save_codec(LatentCodec(build_autoencoder(AutoencoderSettings(), seed=0), 0.5), folder / "codec")
    return folder


@pytest.fixture
def precompute(tmp_path, output, capsys):
    """Runs the command; gives the files of latents by name and what was said."""

    def run(*options, recipe=RECIPE, code=0):
        path = tmp_path / "recipe.toml"
        path.write_text(recipe, encoding="utf-8")
        assert main(["precompute", str(path), "--output", str(output), *options]) == code
        return files(output / "latents"), capsys.readouterr()

    return run


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def with_holes(output, more=""):
    """A recipe for rendered frames and a sensor's, both without depth in the upper half, and `more` in their table."""
    for folder in ("rendered", "measured"):
        (output / folder).mkdir(exist_ok=True)
        for seed in range(2):
            write_frame(output / folder / str(seed), scene(seed, sky_rows=16))
    data = 'folders = ["rendered"]\n[[frames.datasets]]\nkind = "pairs"\nroot = "measured"\n'
    view = "{ height_px = 32, width_px = 48, min_scale = 1.0, aspect_jitter = 0.0 }"
    text = RECIPE.replace("held_out = 1\n", f"held_out = 1\n{data}").replace("{ height_px = 16, width_px = 24 }", view)
    return text.replace("[latents.small]", f"[latents.small]\n{more}")
