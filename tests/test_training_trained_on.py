"""What a network was trained on and with stands beside it, and other data is not taken for it."""

import logging
import shutil

import pytest
import torch

from depthfm_core.data.folder import write_frame
from depthfm_core.data.sample import DepthSample
from depthfm_core.model.checkpoints import load_checkpoint
from depthfm_core.model.layouts import flatten_settings
from depthfm_core.training import loop
from depthfm_core.training.engine import choose_precision, training_device
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.stages import run_recipe

from .test_training_recipe import TOY, write_toy
from .trained_recipe import changed_recipe


def add_frames(folder, count, first=0):
    """Frames of another grey, in a folder that may be there already."""
    folder.mkdir(exist_ok=True)
    image = torch.full((3, 40, 56), 0.5)
    for index in range(first, first + count):
        write_frame(folder / f"new{index}", DepthSample(image, 1 + image[:1], torch.ones(1, 40, 56, dtype=torch.bool)))


MORE_FOLDERS = 'folders = ["frames", "more", "other"]'


def test_a_network_that_has_not_seen_data_that_was_added_is_not_exported_as_if_it_had(trained, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    add_frames(output / "other", 4)
    recipe = changed_recipe(tmp_path, 'folders = ["frames", "more"]', MORE_FOLDERS)
    before = (output / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="flow.first is done and was trained without small/other.*delete that folder"):
        run_recipe(recipe, output)
    assert len(list((output / "latents" / "small").iterdir())) == 2  # and nothing was made before
    with pytest.raises(ValueError, match="was trained without small/other"):
        run_recipe(recipe, output, "export")
    assert (output / "model.safetensors").read_bytes() == before
    shutil.rmtree(output / "flow")
    run_recipe(recipe, output)
    made_by = load_checkpoint(output / "model.safetensors").training
    assert made_by["recipe"]["frames"]["folders"] == ["frames", "more", "other"]


def test_frames_that_were_added_to_a_folder_are_told_as_other_frames(trained, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    recipe, shards = read_recipe(write_toy(tmp_path)), sorted((output / "latents" / "small").iterdir())
    add_frames(output / "more", 3)
    said = r"with other frames of small/more \(1 shards, now 3; not more-0001.safetensors, more-0002.safetensors\)"
    with pytest.raises(ValueError, match=said):
        run_recipe(recipe, output)
    assert sorted((output / "latents" / "small").iterdir()) == shards  # nothing was made, so without them all is as was
    for path in (output / "more").glob("new*"):
        path.unlink()
    run_recipe(recipe, output)


def test_a_network_is_kept_by_deleting_the_shards_that_the_message_names(trained, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    recipe = read_recipe(write_toy(tmp_path))
    add_frames(output / "more", 2)
    run_recipe(recipe, output, "latents.small")
    with pytest.raises(ValueError, match=r"not more-0001.safetensors\).*delete the shards of others"):
        run_recipe(recipe, output, "export")
    (output / "latents" / "small" / "more-0001.safetensors").unlink()
    run_recipe(recipe, output, "export")


def test_a_stage_whose_state_was_deleted_is_begun_anew_on_the_data_of_today(trained, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    recipe = read_recipe(write_toy(tmp_path))
    shutil.rmtree(output / "flow" / "second")
    add_frames(output / "more", 2)
    run_recipe(recipe, output, "latents.small")
    (output / "flow" / "first" / "state.pt").unlink()
    with pytest.raises(ValueError, match="flow.first is done"):  # another stage would build on the old result
        run_recipe(recipe, output, "flow.second")
    run_recipe(recipe, output, "flow.first")
    run_recipe(recipe, output)


def test_a_network_that_saw_a_data_set_that_the_recipe_has_no_more_is_told_too(trained, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    shutil.rmtree(output / "latents")
    with pytest.raises(ValueError, match="with small/more, which the recipe does not have"):
        run_recipe(changed_recipe(tmp_path, 'folders = ["frames", "more"]', 'folders = ["frames"]'), output, "export")


def test_a_network_whose_latents_are_deleted_is_exported_as_is_one_of_an_earlier_version(trained, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    recipe = read_recipe(write_toy(tmp_path))
    (output / "latents" / "small" / "more-0000.safetensors").unlink()
    run_recipe(recipe, output)  # makes it again
    shutil.rmtree(output / "latents")
    run_recipe(recipe, output, "export")
    for record in (output / "recipes").glob("flow.*.latents.json"):
        record.unlink()
    add_frames(output / "more", 3)
    run_recipe(recipe, output)


def test_a_training_under_way_goes_on_with_more_data_and_says_so(trained, tmp_path, monkeypatch, caplog):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    shutil.rmtree(output / "flow")
    text = TOY.replace("[flow.first.loop]", "[flow.first.loop]\nsave_every = 1")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        advance = loop._Run.advance
        patch.setattr(loop._Run, "advance", lambda run, *args: stop() if run.step else advance(run, *args))
        run_recipe(read_recipe(write_toy(tmp_path, text)), output, "flow.first")
    add_frames(output / "other", 3)
    caplog.set_level(logging.INFO)
    recipe = read_recipe(write_toy(tmp_path, text.replace('folders = ["frames", "more"]', MORE_FOLDERS)))
    run_recipe(recipe, output)
    assert "flow.first goes on; until now it was trained without small/other" in caplog.text
    assert "flow.second goes on" not in caplog.text
    run_recipe(recipe, output)


def stop():
    raise KeyboardInterrupt


def test_a_rate_that_is_changed_after_the_training_is_told_and_not_exported(trained, tmp_path, caplog):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    caplog.set_level(logging.INFO)
    run_recipe(read_recipe(write_toy(tmp_path, TOY.replace("learning_rate = 1e-3", "learning_rate = 5e-2"))), output)
    settings = flatten_settings(load_checkpoint(output / "model.safetensors").training["recipe"])
    names = ("autoencoder.loop", "flow.first.loop", "flow.second.loop")
    assert [settings[f"{name}.learning_rate"] for name in names] == [1e-3] * 3
    for stage in ("autoencoder", "flow.first", "flow.second"):
        said = f"{stage} is done and stays as it is; it was trained with learning_rate 0.001 (now 0.05)"
        assert said in caplog.messages


def test_the_exported_file_says_the_precision_that_auto_chose(trained, tmp_path):
    output, recipe = tmp_path / "out", read_recipe(write_toy(tmp_path))
    shutil.copytree(trained, output)
    names = [f"{stage}.loop.mixed_precision" for stage in ("autoencoder", "flow.first", "flow.second")]
    path = output / "flow" / "first" / "state.pt"
    chosen, state = choose_precision("auto", training_device()), torch.load(path)
    torch.save(state | {"precision": "fp16"}, path)
    run_recipe(recipe, output, "export")
    settings = flatten_settings(load_checkpoint(output / "model.safetensors").training["recipe"])
    assert [settings[name] for name in names] == [chosen, "fp16", chosen]


def test_a_training_that_is_done_says_that_it_stays(trained, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run_recipe(read_recipe(write_toy(tmp_path)), trained, "flow.first")
    assert "flow.first is done and stays as it is" in caplog.messages


def test_other_shares_than_those_of_the_training_are_told(trained, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    shutil.rmtree(output / "flow")
    tables = '[[frames.datasets]]\nkind = "frames"\nroot = "frames"\nshare = {}\n'
    tables += '[[frames.datasets]]\nkind = "frames"\nname = "more"\nroot = "more"\nshare = 0.1\n'

    text = TOY.replace('folders = ["frames", "more"]\nheld_out = 2\n', "folders = []\nheld_out = 2\n{}")
    recipes = [read_recipe(write_toy(tmp_path, text.replace("{}", tables.format(share)))) for share in (0.9, 0.5)]
    run_recipe(recipes[0], output, "flow.first")
    with pytest.raises(ValueError, match=r"with shares \{'frames': 0.9, 'more': 0.1\} \(now \{'frames': 0.5"):
        run_recipe(recipes[1], output, "flow.first")


def test_what_others_were_made_from_is_not_trained_for_longer(trained, tmp_path):
    """Its weights would be gone, and the others refused once it has trained."""
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    for name in ("autoencoder", "flow/first"):
        state = torch.load(output / name / "state.pt", weights_only=True)
        torch.save(state | {"settings": state["settings"] | {"schedule": "constant"}}, output / name / "state.pt")
    constant, longer = 'num_steps = 2\nschedule = "constant"', 'num_steps = 4\nschedule = "constant"'
    text, head = TOY.replace("num_steps = 2", constant), "[flow.first.loop]\n"
    flow = read_recipe(write_toy(tmp_path, text.replace(head + constant, head + longer)))
    with pytest.raises(ValueError, match=r"\[flow.first.loop\] has num_steps 4, and flow.second hold its result, of 2"):
        run_recipe(flow, output)
    autoencoder = read_recipe(write_toy(tmp_path, text.replace(constant, longer, 1)))
    made = r"\[autoencoder.loop\] has num_steps 4, and latents.small, flow.first, flow.second hold its result"
    with pytest.raises(ValueError, match=made):
        run_recipe(autoencoder, output)
    assert torch.load(output / "flow/first/state.pt", weights_only=True)["step"] == 2
    shutil.rmtree(output / "flow/second")
    run_recipe(flow, output, "flow.first")
    assert torch.load(output / "flow/first/state.pt", weights_only=True)["step"] == 4
