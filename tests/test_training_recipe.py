"""Recipes, and a whole one on toy sizes from frames to a model that estimates depth."""

import logging
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import depthfm_core.training.recipe as recipe_module
from depthfm_core.__main__ import main
from depthfm_core.data.folder import write_frame
from depthfm_core.data.sample import DepthSample
from depthfm_core.loading import load_pipeline
from depthfm_core.model.checkpoints import load_checkpoint
from depthfm_core.training import inputs, stages
from depthfm_core.training.autoencoder import AutoencoderSettings
from depthfm_core.training.engine import Engine
from depthfm_core.training.frames import split_frames
from depthfm_core.training.recipe import AutoencoderStage, read_recipe, read_recipe_text, shorten
from depthfm_core.training.stages import run_recipe, stage_names

TOY = """
[frames]
folders = ["frames", "more"]
held_out = 2
[autoencoder.loop]
num_steps = 2
batch_size = 2
learning_rate = 1e-3
[autoencoder.model]
crop_px = 32
[latents.small]
frames_per_shard = 2
view = { height_px = 32, width_px = 48 }
[network]
null_text_tokens = 3
[network.unet]
model_channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
attention_resolutions = [2]
num_heads = 2
context_dim = 8
[flow.first]
latents = ["small"]
[flow.first.loop]
num_steps = 2
batch_size = 2
learning_rate = 1e-3
[flow.second]
latents = ["small"]
start = "first"
noising_step = 300
[flow.second.loop]
num_steps = 1
batch_size = 2
learning_rate = 1e-3
"""


def with_frames(text):
    """The toy recipe with other frames."""
    return TOY.replace('[frames]\nfolders = ["frames", "more"]\nheld_out = 2\n', text)


def write_toy(tmp_path, text=TOY):
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def write_toy_frames(output):
    """Two folders of four frames: a grey ramp, near at its dark end."""
    image = torch.linspace(0, 1, 56).expand(3, 40, 56)
    sample = DepthSample(image, 1 + 9 * image[:1], torch.ones(1, 40, 56, dtype=torch.bool))
    for name in ("frames", "more"):
        (output / name).mkdir(parents=True)
        for index in range(4):
            write_frame(output / name / f"{index}", sample)


@pytest.mark.parametrize("name", ["nano.toml", "nano_cpu.toml"])
def test_the_recipes_of_nano_are_valid_and_name_their_stages(name):
    recipe = read_recipe(Path(recipe_module.__file__).with_name(name))
    names = stage_names(recipe)
    assert names[:2] == ["frames", "autoencoder"] and names[-1] == "export"


def test_a_recipe_with_a_windows_editors_mark_is_the_same_recipe(tmp_path):
    for name, encoding in (("plain.toml", "utf-8"), ("marked.toml", "utf-8-sig")):
        (tmp_path / name).write_text(TOY, encoding=encoding)
    assert read_recipe(tmp_path / "marked.toml") == read_recipe(tmp_path / "plain.toml")
    assert read_recipe_text(tmp_path / "marked.toml") == TOY


def test_a_recipe_that_is_not_utf_8_is_told_with_its_name(tmp_path):
    (tmp_path / "wide.toml").write_text(TOY, encoding="utf-16")
    with pytest.raises(ValueError, match=r"wide.toml is not UTF-8 text; save it as UTF-8\."):
        read_recipe(tmp_path / "wide.toml")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("held_out = 2", "heldout = 2", "unknown keys heldout"),
        ("[flow.first.loop]\nnum_steps = 2", "[flow.first.loop]\nsteps = 2", "unknown keys steps"),
        ("num_steps = 1\n", "", "flow.second: loop is incomplete"),
        ("crop_px = 32", 'crop_px = "32"', "crop_px is '32'"),
        ("crop_px = 32", "crop_px = 32.5", "crop_px is 32.5"),
        ("crop_px = 32", "crop_px = true", "crop_px is True"),
        ('start = "first"', 'start = "zeroth"', "starts from 'zeroth'"),
        ('[flow.second]\nlatents = ["small"]', '[flow.second]\nlatents = ["large"]', "needs latents out of small"),
        ("view = { height_px = 32, width_px = 48 }", "view = 3", "view must be a table"),
        ("noising_step = 300", 'time_sampling = "never"', "uniform"),
        ("[frames]", "[frames", "not valid TOML"),
        ("noising_step = 300", "noising_step = 1000", "noising_step is 1000"),
        ("crop_px = 32", "crop_px = 36", "crop_px is 36; choose a multiple of 8"),
        ("crop_px = 32", "encoder_blocks = [2, 3, 3, 3]", r"encoder_blocks is \[2, 3, 3, 3\]"),
        ("crop_px = 32", "decoder_blocks = [3, 3, 3]", r"decoder_blocks is \[3, 3, 3\]"),
        ("frames_per_shard = 2", "frames_per_shard = 0", "frames_per_shard is 0"),
        ("frames_per_shard = 2", "views_per_frame = 0", "views_per_frame is 0"),
        ("frames_per_shard = 2", "workers = 0", "workers is 0"),
        ("held_out = 2", "held_out = 2\nworkers = 0", "workers 0; choose 1 or more"),
        ("held_out = 2", "held_out = 2\ncount = 9\nheight_px = 8", "height_px 8 and width_px 256; choose"),
        ("held_out = 2", "held_out = 2\ncount = 9\nfirst_seed = -5", "first_seed -5, .* choose a seed of 0 or more"),
        ("frames_per_shard = 2", "frames_per_shard = 2\nseed = -1", "seed is -1; choose 0 or more"),
        ("[latents.small]", '[latents."../small"]', r"'../small' is a name in \[latents.NAME\].*without /"),
        ("[flow.first", '[flow.""', "'' is a name in .flow.NAME"),
        ("[flow.first", '[flow."a\\\\b"', r"'a.+b' is a name in .flow.NAME.*without /, . and :"),
        ('"more"', '".."', "has the folder '..', which has no name"),
        ("held_out = 2", "held_out = 0", "checked on held-out frames: 1 or more"),
        ("height_px = 32, width_px = 48", "height_px = 36, width_px = 48", "36x48 pixels; its sides must be multiples"),
        ("[autoencoder.loop]", "[autoencoder.loop]\ngradient_checkpointing = true", "cannot have gradient_checkpoint"),
        ("[autoencoder.loop]", "[autoencoder.loop]\nmicro_batch_size = 1", "cannot have micro_batch_size"),
        ("model_channels = 32", "model_channels = 32\nin_channels = 4", "in_channels 4 and out_channels 4"),
        ("null_text_tokens = 3", 'null_text_tokens = 3\nnull_text = "a.npy"', "null_text_tokens, of a random"),
        ("null_text_tokens = 3", "keep_heads = false", "keep_heads, which is of a prior's heads, and no prior"),
        ("held_out = 2", "held_out = 2\nheight_px = 96", r"has height_px, .*and count 0"),
        ("held_out = 2", "held_out = 2\nfirst_seed = 7\nworkers = 2", r"has first_seed, workers, .*and count 0"),
        ("crop_px = 32", "min_scale = 1.5", "min_scale is 1.5"),
        ("crop_px = 32", "latent_noise = -0.1", "latent_noise is -0.1"),
        ("width_px = 48 }", "width_px = 48, min_scale = 0 }", "min_scale is 0.0"),
        ("width_px = 48 }", "width_px = 48, aspect_jitter = -0.1 }", "aspect_jitter is -0.1"),
        ("width_px = 48 }", "width_px = 48, flip_probability = 2 }", "flip_probability is 2.0"),
        ("[network]", "[photometry]\ngamma = 0\n[network]", "gamma is 0.0"),
        ("[network]", "[photometry]\nprobability = 1.5\n[network]", "probability is 1.5"),
        ("[network]", "[photometry]\nnoise = -1\n[network]", "noise is -1.0"),
        ("[network]", "[photometry]\nborder = 0.5\n[network]", "border is 0.5"),
        ("[network]", "[photometry]\njpeg_quality = 0\n[network]", "jpeg_quality is 0"),
        ("num_steps = 1\n", "num_steps = 1\nseed = -1\n", "seed is -1"),
        ("num_steps = 1\n", "num_steps = 1\nweight_decay = -0.1\n", "weight_decay is -0.1"),
        ("num_steps = 1\n", "num_steps = 1\nweight_decay = nan\n", "weight_decay is nan"),
        ("num_steps = 1\n", "num_steps = 1\nweight_decay = inf\n", "weight_decay is infinite"),
        ("num_steps = 1\n", "num_steps = 1\nema_decay = 1\n", "ema_decay is 1.0"),
        ("num_steps = 1\n", "num_steps = 1\nema_decay = nan\n", "ema_decay is nan"),
        ("num_steps = 1\n", "num_steps = 1\nmax_grad_norm = nan\n", "max_grad_norm is nan"),
        ("learning_rate = 1e-3", "learning_rate = nan", "learning_rate is nan"),
        ("learning_rate = 1e-3", "learning_rate = inf", "learning_rate is infinite"),
        ("noising_step = 300", "normals_weight = inf", "normals_weight is inf"),
        ("noising_step = 300", "lora = { alpha = nan }", "alpha is nan"),
        ("noising_step = 300", "lora = { alpha = inf }", "alpha is inf"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_place_of_the_mistake(tmp_path, old, new, complaint):
    assert old in TOY
    with pytest.raises(ValueError, match=complaint):
        read_recipe(write_toy(tmp_path, TOY.replace(old, new)))


def test_whole_numbers_serve_as_fractions(tmp_path):
    recipe = read_recipe(write_toy(tmp_path, TOY.replace("learning_rate = 1e-3", "learning_rate = 1")))
    assert recipe.autoencoder.loop.learning_rate == 1.0


def test_the_first_frames_of_each_folder_are_held_out(tmp_path):
    write_toy_frames(tmp_path)
    train, held_out = split_frames(read_recipe(write_toy(tmp_path)).frames, tmp_path)
    assert [f"{frame.data_set}/{frame.name}" for frame in held_out] == ["frames/0", "frames/1", "more/0", "more/1"]
    assert len(train) == 4 and not set(train) & set(held_out)
    with pytest.raises(ValueError, match="held out"):
        split_frames(read_recipe(write_toy(tmp_path, TOY.replace("held_out = 2", "held_out = 4"))).frames, tmp_path)


def test_a_recipe_runs_from_frames_to_a_model_that_estimates_depth_and_resumes(tmp_path, monkeypatch):
    write_toy_frames(tmp_path)
    recipe = read_recipe(write_toy(tmp_path))
    run_recipe(recipe, tmp_path)
    model = tmp_path / "model.safetensors"
    checkpoint = load_checkpoint(model)
    assert checkpoint.noising_step == 300 and checkpoint.processing_resolution == 32
    assert checkpoint.null_text.shape == (1, 3, 8) and checkpoint.spread_scale not in (0, 1)
    prediction = load_pipeline(model)(torch.rand(1, 3, 50, 70))
    assert prediction.depth.shape == (1, 1, 50, 70) and prediction.depth.isfinite().all()
    first = load_file(model)
    model.unlink()
    monkeypatch.setattr(Engine, "backward", lambda *_args: pytest.fail("it trained again"))
    run_recipe(recipe, tmp_path)
    again = load_file(model)
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)


def test_a_stage_without_its_inputs_and_an_unknown_stage_are_refused(tmp_path):
    write_toy_frames(tmp_path)
    recipe = read_recipe(write_toy(tmp_path))
    with pytest.raises(ValueError, match="--stage autoencoder` first"):
        run_recipe(recipe, tmp_path, "flow.first")
    with pytest.raises(ValueError, match="autoencoder, latents.small, flow.first, flow.second, export"):
        run_recipe(recipe, tmp_path, "flow.third")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("noising_step = 300", 'lora = { layers = ["to_z"] }', "no layer 'to_z'"),
        ("null_text_tokens = 3", 'null_text = "none.npy"', "none.npy"),
        ("null_text_tokens = 3", 'text_encoder = "none"', r"There is no .*none \(text_encoder in .*training.md"),
        ("null_text_tokens = 3", 'prior = "none"\ntext_encoder = "no"', r"none \(prior .* and no .*no \(text_encoder"),
        ('[flow.first.loop]', '[flow.first.loop]\nmixed_precision = "fp16"', "needs a GPU"),
        ("[autoencoder.loop]", '[autoencoder]\npath = "none"\n[unused]', "none"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_made(tmp_path, monkeypatch, old, new, complaint):
    monkeypatch.setattr(inputs, "training_device", lambda: torch.device("cpu"))
    monkeypatch.setitem(stages.STAGES, "frames", lambda *_args: pytest.fail("it went on"))
    text = TOY.replace(old, new)
    if "[unused]" in text:
        text = text[: text.index("[unused]")] + text[text.index("[latents.small]") :]
    with pytest.raises((ValueError, OSError), match=complaint):
        run_recipe(read_recipe(write_toy(tmp_path, text)), tmp_path / "out")


def test_a_missing_package_for_lora_is_told_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setitem(stages.STAGES, "frames", lambda *_args: pytest.fail("it went on"))
    recipe = read_recipe(write_toy(tmp_path, TOY.replace("noising_step = 300", "lora = { rank = 2 }")))
    with pytest.raises(ModuleNotFoundError, match="peft"):
        run_recipe(recipe, tmp_path / "out")


def test_latents_that_nothing_trains_on_are_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(stages.STAGES, "frames", lambda *_args: None)
    caplog.set_level(logging.INFO)
    text = TOY.replace("[network]", "[latents.idle]\nview = { height_px = 32, width_px = 48 }\n[network]", 1)
    run_recipe(read_recipe(write_toy(tmp_path, text)), tmp_path, "frames")
    assert "no flow stage trains on [latents.idle]" in caplog.text and "[latents.small]" not in caplog.text


def test_the_command_trains_one_stage_and_keeps_a_log(tmp_path):
    write_toy_frames(tmp_path / "out")
    arguments = [str(write_toy(tmp_path)), "--output", str(tmp_path / "out"), "--stage", "autoencoder"]
    assert main(["train", *arguments]) == 0
    assert (tmp_path / "out" / "autoencoder" / "config.json").exists()
    assert not (tmp_path / "out" / "latents").exists()
    assert "image_psnr_db" in (tmp_path / "out" / "train.log").read_text(encoding="utf-8")


def test_the_command_runs_a_recipe_with_fewer_steps_on_demand(tmp_path, capsys):
    write_toy_frames(tmp_path / "out")
    text = TOY.replace("num_steps = 2", "num_steps = 1000000000")
    arguments = ["train", str(write_toy(tmp_path, text)), "--output", str(tmp_path / "out"), "--steps"]
    assert main([*arguments, "1"]) == 0
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert torch.load(tmp_path / "out" / "flow" / "first" / "state.pt", weights_only=True)["step"] == 1
    assert main([*arguments, "0"]) == 2
    assert "num_steps is 0" in capsys.readouterr().err


def test_a_shortened_recipe_keeps_trainings_that_are_shorter_already(tmp_path):
    recipe = shorten(read_recipe(write_toy(tmp_path)), 2)
    assert [stage.loop.num_steps for stage in recipe.flow.values()] == [2, 1] and recipe.autoencoder.loop.num_steps == 2


def test_how_to_train_an_autoencoder_is_refused_where_none_is_trained():
    with pytest.raises(ValueError, match="there is no .autoencoder.loop.; leave it out"):
        AutoencoderStage(path="vae", model=AutoencoderSettings(latent_noise=0.3))
