"""The image prior: an image model's UNet as the start of a velocity network, and recipes that start from it."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from depthfm_core.loading import load_pipeline
from depthfm_core.model.checkpoints import load_checkpoint
from depthfm_core.model.codec import load_codec
from depthfm_core.model.names import diffusers_to_ldm
from depthfm_core.model.reading import CheckpointError
from depthfm_core.training.first_weights import find_null_text
from depthfm_core.training.null_text import embed_empty_prompt
from depthfm_core.training.prior import read_prior
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.stages import run_recipe, stage_names
from depthfm_core.training.velocity import build_network

from .sd_prior import (
    HYPER,
    LDM_PREFIX,
    build_prior,
    ldm_tensors,
    write_ckpt,
    write_diffusers,
    write_ldm,
    write_text_encoder,
)
from .test_training_recipe import write_toy, write_toy_frames

TEXT = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(3))
LATENTS = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(4))
T = torch.tensor([0.2, 0.9])


def started(path, hyper=HYPER, keep_heads=True):
    """A velocity network that starts from the prior."""
    network = build_network(hyper, 5, 0, TEXT).eval()
    network.unet.load_state_dict(read_prior(path, hyper, keep_heads=keep_heads))
    return network


@torch.no_grad()
def dream(prior, latent):
    """What the image model itself computes."""
    return prior(latent, T, encoder_hidden_states=TEXT.expand(2, -1, -1)).sample


@pytest.mark.parametrize("write", [write_diffusers, write_ldm, write_ckpt])
def test_the_widened_network_does_to_a_mean_what_the_prior_does_to_its_input(tmp_path, write):
    prior = build_prior()
    network = started(write(prior, tmp_path))
    one, other = LATENTS
    with torch.no_grad():
        torch.testing.assert_close(network(one, T, one), dream(prior, one), rtol=0, atol=1e-5)
        torch.testing.assert_close(network(one, T, other), dream(prior, (one + other) / 2), rtol=0, atol=1e-5)
    assert not torch.allclose(dream(prior, one), dream(prior, other), atol=1e-2)


def test_half_precision_weights_are_trained_in_full_precision(tmp_path):
    weights = read_prior(write_diffusers(build_prior().half(), tmp_path), HYPER, keep_heads=True)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_whole_weights_are_read_before_their_half_precision_variant(tmp_path):
    prior = build_prior()
    path = write_diffusers(prior, tmp_path)
    prior.half().save_pretrained(tmp_path / "unet", variant="fp16")
    assert len(list((tmp_path / "unet").glob("*.safetensors"))) == 2
    assert not torch.equal(started(path).unet.conv_out.weight, prior.conv_out.weight.float())


WIDE = dataclasses.replace(HYPER, model_channels=64)  # heads of 64 channels: 1 and 2


@pytest.mark.parametrize("write", [write_diffusers, write_ldm])
def test_other_heads_than_the_priors_have_to_be_asked_for(tmp_path, write):
    path = write(build_prior(block_out_channels=[64, 128], attention_head_dim=[1, 2]), tmp_path)
    with pytest.raises(CheckpointError, match=r"\[1, 2\] attention heads.* \[8, 8\].*keep_heads = false"):
        read_prior(path, WIDE, keep_heads=True)
    same = dataclasses.replace(WIDE, num_heads=-1, num_head_channels=64)
    kept, changed = started(path, same), started(path, WIDE, keep_heads=False)
    with torch.no_grad():
        outputs = [network(LATENTS[0], T, LATENTS[1]) for network in (kept, changed)]
    assert not torch.allclose(*outputs, atol=1e-4)
    assert torch.equal(kept.unet.conv_in.weight, changed.unet.conv_in.weight)


def without(name):
    def change(tensors):
        del tensors[name]

    return change


def replaced(name, tensor):
    return lambda tensors: tensors.update({name: tensor})


FIRST, LAST = f"{LDM_PREFIX}input_blocks.0.0.weight", f"{LDM_PREFIX}out.2.bias"
FAULTS = {
    "a DepthFM": (replaced(FIRST, torch.zeros(32, 8, 3, 3)), r"\[8\] input channels"),
    "another width": (replaced(FIRST, torch.zeros(64, 4, 3, 3)), "input_blocks.0.0.weight .*64, 4, 3, 3"),
    "missing tensor": (without(LAST), "missing: out.2.bias"),
    "unexpected tensor": (replaced(f"{LDM_PREFIX}out.3.bias", torch.zeros(4)), "unexpected: out.3.bias"),
    "integers": (replaced(LAST, torch.zeros(4, dtype=torch.int64)), "not plain floating point: out.2.bias"),
    "no UNet": (without(FIRST), "not a Stable Diffusion UNet"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_no_such_prior_says_what_is_wrong(tmp_path, fault):
    change, complaint = FAULTS[fault]
    tensors = ldm_tensors(build_prior())
    change(tensors)
    save_file(tensors, tmp_path / "prior.safetensors")
    with pytest.raises(CheckpointError, match=complaint) as error:
        read_prior(tmp_path / "prior.safetensors", HYPER, keep_heads=True)
    assert "prior.safetensors" in str(error.value) and "\n" not in str(error.value)


def test_a_folder_of_another_shape_or_without_a_unet_says_what_is_wrong(tmp_path):
    path = write_diffusers(build_prior(), tmp_path)
    with pytest.raises(CheckpointError, match="num_res_blocks 1, and the recipe's network 2"):
        read_prior(path, dataclasses.replace(HYPER, num_res_blocks=2), keep_heads=True)
    shutil.rmtree(path / "unet")
    with pytest.raises(CheckpointError, match="without unet/config.json.*Give Stable Diffusion 2.1"):
        read_prior(path, HYPER, keep_heads=True)


RECIPE = """
[frames]
held_out = 2
[autoencoder]
path = "vae"
[latents.small]
view = { height_px = 32, width_px = 48 }
[network]
prior = "sd"
text_encoder = "sd"
[network.unet]
model_channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
attention_resolutions = [2, 1]
num_heads = 8
context_dim = 8
[flow.first]
latents = ["small"]
[flow.first.loop]
num_steps = 2
batch_size = 2
learning_rate = 1e-5
warmup_steps = 1
"""


@pytest.fixture
def output(tmp_path, golden_dir):
    """An output folder with frames, a Stable Diffusion and a KL autoencoder."""
    folder = tmp_path / "out"
    write_toy_frames(folder)
    write_text_encoder(write_diffusers(build_prior(), folder / "sd"))
    (folder / "vae").mkdir()
    shutil.copy(golden_dir / "micro-vae-diffusers.json", folder / "vae" / "config.json")
    shutil.copy(golden_dir / "micro-vae-diffusers.safetensors", folder / "vae")
    return folder


def recipe_of(output, text=RECIPE):
    return read_recipe(write_toy(output.parent, text))


def test_a_recipe_with_prior_and_autoencoder_runs_to_a_model_that_estimates_depth(output):
    recipe = recipe_of(output)
    assert stage_names(recipe) == ["frames", "latents.small", "flow.first", "export"]
    run_recipe(recipe, output)
    checkpoint = load_checkpoint(output / "model.safetensors")
    assert torch.equal(checkpoint.null_text, embed_empty_prompt(output / "sd"))
    start = read_prior(output / "sd", HYPER, keep_heads=True)
    trained = load_file(output / "flow" / "first" / "network.safetensors")
    assert 0 < max((start[name] - t).abs().max() for name, t in trained.items()) < 1e-4
    trained = diffusers_to_ldm(trained, HYPER)
    assert all(torch.equal(trained[name].half(), tensor) for name, tensor in checkpoint.state_dict.items())
    latent = torch.randn(1, 4, 2, 2)
    own, given = checkpoint.build_codec(), load_codec(output / "vae")
    torch.testing.assert_close(own.decode(latent), given.decode(latent), rtol=0, atol=1e-2)
    assert own.scaling_factor == given.scaling_factor and not (output / "autoencoder").exists()
    prediction = load_pipeline(output / "model.safetensors")(torch.rand(1, 3, 50, 70))
    assert prediction.depth.shape == (1, 1, 50, 70) and prediction.depth.isfinite().all()


def test_a_trained_stage_needs_neither_prior_nor_text_encoder_again(output):
    recipe = recipe_of(output)
    run_recipe(recipe, output)
    first = load_file(output / "model.safetensors")
    shutil.rmtree(output / "sd")
    run_recipe(recipe, output, "export")
    again = load_file(output / "model.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_prior_that_was_replaced_since_is_not_gone_on_from(output):
    recipe = recipe_of(output)
    run_recipe(recipe, output)
    (file,) = (output / "sd" / "unet").glob("*.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="was made with weights of network.prior 'sha256:.*delete that folder"):
        run_recipe(recipe, output)


def test_a_recipe_takes_a_saved_embedding_and_an_autoencoder_in_one_file(output):
    np.save(output / "empty.npy", TEXT[0].numpy())
    text = RECIPE.replace('text_encoder = "sd"', 'null_text = "empty.npy"')
    text = text.replace('path = "vae"', 'path = "vae/micro-vae-diffusers.safetensors"')
    recipe = recipe_of(output, text)
    for stage in stage_names(recipe):
        run_recipe(recipe, output, stage)
    assert torch.equal(load_checkpoint(output / "model.safetensors").null_text, TEXT)


def test_a_stage_with_checkpointed_gradients_gives_the_same_weights(output):
    results = []
    for setting in ("false", "true"):
        shutil.rmtree(output / "flow", ignore_errors=True)
        recipe = recipe_of(output, f"{RECIPE}mixed_precision = 'no'\ngradient_checkpointing = {setting}\n")
        run_recipe(recipe, output)
        results.append(load_file(output / "flow" / "first" / "network.safetensors"))
    plain, checkpointed = results
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('path = "vae"', "", "either path"),
        ('path = "vae"', 'path = "vae"\nloop = { num_steps = 1, batch_size = 1, learning_rate = 1 }', "either path"),
        ('path = "vae"', "loop = { steps = 1 }", "autoencoder: loop has unknown keys steps"),
        ('text_encoder = "sd"', "", "set text_encoder"),
        ('text_encoder = "sd"', 'text_encoder = "sd"\nnull_text = "a.npy"', "set one of them"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(output, old, new, complaint):
    with pytest.raises(ValueError, match=complaint):
        recipe_of(output, RECIPE.replace(old, new))


def test_a_corrected_text_encoder_is_not_given_the_old_ones_embedding(output):
    recipe = recipe_of(output)
    first = find_null_text(recipe.network, output)
    shutil.copytree(output / "sd", output / "right")
    file = output / "right" / "text_encoder" / "model.safetensors"
    save_file({name: tensor + 0.5 for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    corrected = recipe_of(output, RECIPE.replace('text_encoder = "sd"', 'text_encoder = "right"'))
    second = find_null_text(corrected.network, output)
    assert not torch.equal(first, second) and torch.equal(second, embed_empty_prompt(output / "right"))
    shutil.rmtree(output / "right")  # made once; the encoder is not needed again
    moved = output.rename(output.with_name("moved"))
    assert torch.equal(find_null_text(corrected.network, moved), second)
