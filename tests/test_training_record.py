"""What a result was made with stands beside it and in it, and a recipe that no longer fits it is refused."""

import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from depthfm_core import __version__
from depthfm_core.__main__ import main
from depthfm_core.data.folder import write_frame
from depthfm_core.data.sample import DepthSample
from depthfm_core.model.checkpoints import convert, load_checkpoint
from depthfm_core.model.layouts import flatten_settings
from depthfm_core.training import stages
from depthfm_core.training.recipe import read_recipe, shorten
from depthfm_core.training.stages import run_recipe

from .test_replacing import leave_half_written
from .test_training_recipe import TOY, write_toy, write_toy_frames
from .trained_recipe import changed_recipe


def test_the_recipe_stands_beside_the_model_and_in_it(trained, tmp_path):
    assert (trained / "recipe.toml").read_text(encoding="utf-8") == TOY
    made_by = load_checkpoint(trained / "model.safetensors").training
    assert made_by["version"] == __version__
    settings = flatten_settings(made_by["recipe"])
    assert settings["flow.second.noising_step"] == 300 and settings["network.unet.channel_mult"] == [1, 2]
    assert settings["flow.first.loop.max_grad_norm"] == 1.0  # a default, which another version may change
    convert(trained / "model.safetensors", tmp_path / "copy.safetensors")
    assert load_checkpoint(tmp_path / "copy.safetensors").training == made_by


def test_info_tells_the_recipe_where_a_file_says_it(trained, tmp_path, capsys):
    assert main(["info", str(trained / "model.safetensors")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["trained", "by:", "depthfm", __version__] in map(str.split, lines)
    assert ["recipe.flow.second.noising_step:", "300"] in map(str.split, lines)
    save_file(load_file(trained / "model.safetensors"), tmp_path / "silent.safetensors")
    assert main(["info", str(tmp_path / "silent.safetensors")]) == 0
    assert "recipe." not in capsys.readouterr().out


def test_a_file_that_describes_its_training_wrongly_is_refused(trained, tmp_path, capsys):
    tensors = load_file(trained / "model.safetensors")
    save_file(tensors, tmp_path / "wrong.safetensors", {"training": "7"})
    assert main(["info", str(tmp_path / "wrong.safetensors")]) == 2
    assert "describes itself wrongly" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "stage", "complaint"),
    [
        ("crop_px = 32", "crop_px = 40", "autoencoder", r"autoencoder.model.crop_px 32 \(now 40\)"),
        ("[network]", "[normalization]\nnear_percentile = 7.0\n[network]", "latents.small", "normalization.near_perc"),
        ("height_px = 32, width_px = 48", "height_px = 40, width_px = 48", "latents.small", "view.height_px 32"),
        ("frames_per_shard = 2", "frames_per_shard = 3", "latents.small", "frames_per_shard 2"),
        ("held_out = 2", "held_out = 1", "latents.small", "frames.held_out 2"),
        ("height_px = 32, width_px = 48", "height_px = 40, width_px = 48", "flow.second", "latents.small was made"),
        ("model_channels = 32", "model_channels = 64", "flow.first", "network.unet.model_channels 32"),
        ("channel_mult = [1, 2]", "channel_mult = [1, 1]", "export", r"channel_mult \[1, 2\]"),
        ("noising_step = 300", "noising_step = 200", "flow.second", "noising_step 300"),
        ("noising_step = 300", "noising_step = 300\nlora = { rank = 2 }", "flow.second", "lora None"),
    ],
)  # fmt: skip
def test_results_of_other_settings_are_refused_before_anything_is_done(trained, tmp_path, old, new, stage, complaint):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=complaint + ".*delete that folder"):
        run_recipe(changed_recipe(tmp_path, old, new), trained, stage)
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("stage", ["flow.second", "export"])
def test_a_network_that_was_trained_anew_since_is_not_gone_on_from(trained, tmp_path, stage):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    recipe = read_recipe(write_toy(tmp_path))
    network = output / "flow" / "first" / "network.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(network).items()}, network)
    with pytest.raises(ValueError, match="flow.second was made with weights of flow.first .*delete that folder"):
        run_recipe(recipe, output, stage)
    network.unlink()  # nothing to compare with, and nothing that is needed
    run_recipe(recipe, output, "export")


def test_a_model_is_exported_again_only_for_another_network_or_recipe(trained, tmp_path, monkeypatch, caplog):
    output, recipe = shutil.copytree(trained, tmp_path / "out"), read_recipe(write_toy(tmp_path))
    model, measured = output / "model.safetensors", []
    monkeypatch.setattr(stages, "measure_spread_scale", lambda *_args: measured.append(1) or 2.0)
    caplog.set_level(logging.INFO)
    run_recipe(recipe, output)
    assert model.read_bytes() == (trained / "model.safetensors").read_bytes() and not measured
    assert "export is done and stays as it is" in caplog.messages
    convert(model, tmp_path / "copy.safetensors", "float32")  # of the same model, which says so
    shutil.copy(tmp_path / "copy.safetensors", model)
    run_recipe(recipe, output, "export")
    assert load_checkpoint(model).spread_scale != 2.0 and not measured
    network = output / "flow" / "second" / "network.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(network).items()}, network)
    run_recipe(recipe, output, "export")
    assert load_checkpoint(model).spread_scale == 2.0 and len(measured) == 1
    run_recipe(changed_recipe(tmp_path, "frames_per_shard = 2", "frames_per_shard = 2\nworkers = 2"), output, "export")
    assert len(measured) == 2
    model.write_bytes(b"cut short")
    run_recipe(recipe, output, "export")
    assert load_checkpoint(model).spread_scale == 2.0 and len(measured) == 3


def test_an_autoencoder_keeps_the_scale_of_its_latents_when_frames_are_added(trained, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    config = (output / "autoencoder" / "config.json").read_text(encoding="utf-8")
    image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
    for index in range(4):
        sample = DepthSample(image, 1 + image[:1], torch.ones(1, 40, 56, dtype=torch.bool))
        write_frame(output / "more" / f"new{index}", sample)
    run_recipe(read_recipe(write_toy(tmp_path)), output, "autoencoder")
    assert (output / "autoencoder" / "config.json").read_text(encoding="utf-8") == config


def test_latents_made_ahead_are_bound_to_what_they_were_made_with(trained, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    shutil.rmtree(output / "latents")
    (output / "recipes" / "latents.small.json").unlink()
    assert main(["precompute", str(write_toy(tmp_path)), "--output", str(output)]) == 0
    with pytest.raises(ValueError, match="frames.held_out 2"):
        run_recipe(changed_recipe(tmp_path, "held_out = 2", "held_out = 1"), output, "flow.first")


def test_a_refused_recipe_does_not_take_the_place_of_the_one_that_made_the_results(trained, tmp_path, capsys):
    wrong = write_toy(tmp_path, TOY.replace("noising_step = 300", "noising_step = 200"))
    assert main(["train", str(wrong), "--output", str(trained)]) == 2
    assert "noising_step 300" in capsys.readouterr().err
    assert (trained / "recipe.toml").read_text(encoding="utf-8") == TOY


def test_what_a_killed_process_left_half_written_is_no_result_and_goes(trained, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    folder = output / "latents" / "small"
    for shard in folder.iterdir():
        leave_half_written(shard)
        shard.unlink()
    shutil.rmtree(output / "flow")
    recipe = changed_recipe(tmp_path, "frames_per_shard = 2", "frames_per_shard = 2\nseed = 4")
    run_recipe(recipe, output, "latents.small")
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]


def test_what_does_not_spoil_a_result_may_change(trained, tmp_path):
    text = TOY.replace("frames_per_shard = 2", "frames_per_shard = 2\nworkers = 2")
    recipe = read_recipe(write_toy(tmp_path, text))
    run_recipe(recipe, trained, "latents.small")
    with pytest.raises(ValueError, match="state.pt was saved with"):  # the length belongs to the state
        run_recipe(shorten(recipe, 1), trained, "flow.first")
    run_recipe(shorten(recipe, 1), trained, "flow.second")


def test_what_the_sky_is_stands_in_the_shards_whatever_a_record_of_an_earlier_version_says(trained, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    record = output / "recipes" / "latents.small.json"
    made = json.loads(record.read_text(encoding="utf-8"))
    assert "latents.small.sky_is_far" not in made
    record.write_text(json.dumps(made | {"latents.small.sky_is_far": True}), encoding="utf-8")
    run_recipe(read_recipe(write_toy(tmp_path)), output, "latents.small")
    recipe = changed_recipe(tmp_path, "frames_per_shard = 2", "frames_per_shard = 2\nsky_is_far = false")
    with pytest.raises(ValueError, match="made with another sky_is_far"):
        run_recipe(recipe, output, "latents.small")


def test_a_stage_that_left_nothing_but_its_first_check_may_be_started_with_other_settings(tmp_path):
    (tmp_path / "latents" / "small").mkdir(parents=True)
    write_toy_frames(tmp_path)
    recipe = read_recipe(write_toy(tmp_path))
    with pytest.raises(ValueError):
        run_recipe(recipe, tmp_path, "latents.small")
    (tmp_path / "latents" / "small" / "check-000000.png").touch()  # as a training leaves one
    first = json.loads((tmp_path / "recipes" / "latents.small.json").read_text(encoding="utf-8"))
    with pytest.raises(ValueError):
        run_recipe(changed_recipe(tmp_path, "held_out = 2", "held_out = 1"), tmp_path, "latents.small")
    second = json.loads((tmp_path / "recipes" / "latents.small.json").read_text(encoding="utf-8"))
    assert (first["frames.held_out"], second["frames.held_out"]) == (2, 1)


def test_a_spoiled_result_of_an_earlier_stage_is_one_sentence(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "out")
    network = tmp_path / "out" / "flow" / "first" / "network.safetensors"
    network.write_bytes(network.read_bytes()[:1000])
    shutil.rmtree(tmp_path / "out" / "flow" / "second")
    command = ["train", str(write_toy(tmp_path)), "--output", str(tmp_path / "out"), "--stage"]
    assert main([*command, "flow.second"]) == 2
    assert "network.safetensors: is truncated or damaged" in capsys.readouterr().err
    network.unlink()
    assert main([*command, "flow.second"]) == 2
    assert "run stage flow.first first" in capsys.readouterr().err
    torch.save({}, tmp_path / "out" / "flow" / "first" / "state.pt")
    assert main([*command, "flow.first"]) == 2
    assert "is no state of a training" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "out" / "latents")
    (tmp_path / "out" / "flow" / "first" / "state.pt").unlink()
    assert main([*command, "flow.first"]) == 2
    assert "There are no latents in" in capsys.readouterr().err
