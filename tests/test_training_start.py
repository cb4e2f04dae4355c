"""Recipes that go on from a DepthFM: fine-tuning."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from depthfm_core.model import catalog
from depthfm_core.model.catalog import NANO_PATH
from depthfm_core.model.checkpoints import load_checkpoint, save_checkpoint
from depthfm_core.model.codec import LatentCodec, load_codec
from depthfm_core.model.codec_parts import codec_config, codec_tensors
from depthfm_core.training import stages
from depthfm_core.training.export import save_codec
from depthfm_core.training.first_weights import RESULT, find_start, first_network, start_codec
from depthfm_core.training.recipe import NetworkSettings, read_recipe
from depthfm_core.training.stages import run_recipe, stage_names

from .test_training_recipe import write_toy, write_toy_frames

NANO = NetworkSettings(start="nano")
RECIPE = """
[frames]
folders = ["frames"]
held_out = 2
[latents.small]
view = { height_px = 64, width_px = 96 }
[network]
start = "nano"
[flow.tuned]
latents = ["small"]
[flow.tuned.loop]
num_steps = 2
batch_size = 2
learning_rate = 1e-4
warmup_steps = 0
"""


def read(folder, text=RECIPE):
    return read_recipe(write_toy(folder, text))


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """What fine-tuning nano for two steps leaves."""
    folder = tmp_path_factory.mktemp("tuned")
    write_toy_frames(folder)
    run_recipe(read(folder), folder)
    return folder


def test_fine_tuning_changes_the_network_a_little_and_nothing_else(output):
    nano, tuned = load_checkpoint(NANO_PATH), load_checkpoint(output / "model.safetensors")
    for name in ("hyper", "noising_step", "parameterization", "codec_config"):
        assert getattr(tuned, name) == getattr(nano, name), name
    torch.testing.assert_close(tuned.null_text, nano.null_text)
    assert tuned.codec_tensors.keys() == nano.codec_tensors.keys()
    assert all(torch.equal(tensor, nano.codec_tensors[name]) for name, tensor in tuned.codec_tensors.items())
    assert tuned.state_dict.keys() == nano.state_dict.keys()
    moved = [(tensor.float() - nano.state_dict[name].float()).abs().max() for name, tensor in tuned.state_dict.items()]
    assert 0 < max(moved) < 1e-2
    assert tuned.processing_resolution == 64  # of the view
    assert tuned.training["recipe"]["network"]["start"] == "nano"


def test_the_stages_take_the_autoencoder_out_of_the_model(output):
    assert stage_names(read(output))[:2] == ["frames", "autoencoder"]
    image = torch.rand(1, 3, 64, 96) * 2 - 1
    taken, own = load_codec(output / "autoencoder"), load_checkpoint(NANO_PATH).build_codec()
    torch.testing.assert_close(taken.encode(image), own.encode(image))


def test_another_start_does_not_go_on_with_the_autoencoder_of_the_first(output):
    shutil.copy(output / "model.safetensors", output / "mine.safetensors")
    with pytest.raises(ValueError, match="start 'nano' .now 'mine.safetensors'"):
        run_recipe(read(output, RECIPE.replace('"nano"', '"mine.safetensors"')), output)


def test_a_start_that_the_export_would_overwrite_is_refused(output):
    with pytest.raises(ValueError, match="model.safetensors, which stage export writes; copy it to another name"):
        run_recipe(read(output, RECIPE.replace('"nano"', '"model.safetensors"')), output)


def test_the_exports_file_is_refused_by_another_spelling_too(output, tmp_path, caseless):
    for name in (RESULT, RESULT.upper()):
        (tmp_path / name).write_bytes((output / RESULT).read_bytes())
    with pytest.raises(ValueError, match="MODEL.SAFETENSORS, which stage export writes"):
        find_start(NetworkSettings(start=RESULT.upper()), tmp_path)


@pytest.mark.parametrize("stage", ["autoencoder", "flow.tuned", "export"])
def test_a_name_that_means_other_weights_by_now_is_not_gone_on_from(output, tmp_path, monkeypatch, stage):
    shutil.copytree(output, tmp_path, dirs_exist_ok=True)
    nano = load_checkpoint(NANO_PATH)
    weights = {name: tensor * 1.01 for name, tensor in nano.state_dict.items()}
    save_checkpoint(dataclasses.replace(nano, state_dict=weights), tmp_path / "newer.safetensors")
    monkeypatch.setattr(catalog, "NANO_PATH", tmp_path / "newer.safetensors")
    before = (tmp_path / "flow" / "tuned" / "network.safetensors").read_bytes()
    with pytest.raises(ValueError, match="was made with weights of network.start 'sha256:.*delete that folder"):
        run_recipe(read(tmp_path), tmp_path, stage)
    assert (tmp_path / "flow" / "tuned" / "network.safetensors").read_bytes() == before
    for record in (tmp_path / "recipes").iterdir():  # as of a version that did not write them down
        made = json.loads(record.read_text(encoding="utf-8"))
        record.write_text(json.dumps({name: value for name, value in made.items() if "weights of" not in name}))
    run_recipe(read(tmp_path), tmp_path, stage)


def test_the_first_weights_are_the_models(tmp_path):
    network, own = first_network(NANO, tmp_path), load_checkpoint(NANO_PATH).build_unet()
    x_t, image_latent = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.3])
    torch.testing.assert_close(network(x_t, t, image_latent), own(x_t, t, image_latent), rtol=1e-5, atol=1e-5)
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in network.parameters())


def test_a_start_below_the_output_folder_with_its_parameterization(tmp_path):
    nano = load_checkpoint(NANO_PATH)
    save_checkpoint(dataclasses.replace(nano, parameterization="diff2flow"), tmp_path / "mine.safetensors")
    assert first_network(NetworkSettings(start="mine.safetensors"), tmp_path).parameterization == "diff2flow"


def kl_codec():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[32] * 4,
            layers_per_block=1,
        )
    return LatentCodec(autoencoder.eval(), 0.7)


def test_a_bundled_kl_autoencoder_is_taken_out_too(tmp_path):
    codec = kl_codec()
    bundled = {"codec_tensors": codec_tensors(codec), "codec_config": codec_config(codec)}
    checkpoint = dataclasses.replace(load_checkpoint(NANO_PATH), **bundled)
    save_checkpoint(checkpoint, tmp_path / "kl.safetensors", "float32")
    save_codec(start_codec(NetworkSettings(start="kl.safetensors"), tmp_path), tmp_path / "autoencoder")
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(load_codec(tmp_path / "autoencoder").encode(image), codec.encode(image))


def test_a_model_without_an_autoencoder_asks_for_one(golden_dir, tmp_path):
    start = NetworkSettings(start=str(golden_dir / "depthfm-micro-heads8.ckpt"))
    with pytest.raises(ValueError, match="brings no autoencoder; name the one .*path in"):
        start_codec(start, tmp_path)


def test_a_model_without_an_autoencoder_is_refused_before_frames_are_rendered(golden_dir, output, monkeypatch):
    monkeypatch.setitem(stages.STAGES, "frames", lambda *_args: pytest.fail("it went on"))
    recipe = read(output, RECIPE.replace('"nano"', f"'{golden_dir / 'depthfm-micro-heads8.ckpt'}'"))
    with pytest.raises(ValueError, match="brings no autoencoder; name the one .*path in"):
        run_recipe(recipe, output)


def test_another_noise_than_the_models_is_refused_before_anything_is_trained(output):
    recipe = read(output, RECIPE.replace('latents = ["small"]', 'latents = ["small"]\nnoising_step = 300'))
    with pytest.raises(ValueError, match=r"\[flow.tuned\] has noising_step 300, .* trained with 400; set"):
        run_recipe(recipe, output, "flow.tuned")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('start = "nano"', 'start = "nano"\nseed = 3\nprior = "sd"'), "brings prior, seed; leave these out"),
        (('start = "nano"', ""), "needs .network.unet., the network's shape, or start"),
        (
            ("[frames]", "[autoencoder.loop]\nnum_steps = 1\nbatch_size = 1\nlearning_rate = 1.0\n[frames]"),
            "knows the latents of its own autoencoder",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, RECIPE.replace(*change))


def test_a_start_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="There is no model .*mine.ckpt.*nano"):
        first_network(NetworkSettings(start="mine.ckpt"), tmp_path)


def test_the_documents_recipe_exports_a_model_of_the_resolution_of_that_which_it_starts_from(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"## Going on from a DepthFM\n\n```toml\n(.*?)```", page, re.DOTALL)
    recipe = read(tmp_path, text)
    nano = load_checkpoint(find_start(recipe.network, tmp_path)[0])
    assert recipe.export.processing_resolution == nano.processing_resolution
