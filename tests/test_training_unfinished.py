"""A training that is not done gives a model too, and goes on as if nobody had asked for one."""

import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file

from depthfm_core.__main__ import main
from depthfm_core.loading import load_pipeline
from depthfm_core.model.checkpoints import load_checkpoint
from depthfm_core.training import loop
from depthfm_core.training.first_weights import untrained_network
from depthfm_core.training.stages import run_recipe
from depthfm_core.training.velocity import take_averaged

from .trained_recipe import changed_recipe


def test_a_training_that_was_stopped_gives_the_averaged_weights_and_goes_on(trained, tmp_path, caplog, capsys):
    recipe = changed_recipe(tmp_path, "num_steps = 1", "num_steps = 3\nsave_every = 2\nema_decay = 0.5")
    output, whole = (shutil.copytree(trained, tmp_path / name) for name in ("output", "whole"))
    for folder in (output, whole):
        shutil.rmtree(folder / "flow" / "second")
    run_recipe(recipe, whole, "flow.second")
    stop_after(2, recipe, output)
    state = output / "flow" / "second" / "state.pt"
    before = state.read_bytes()
    caplog.set_level(logging.INFO)
    run_recipe(recipe, output, "export")
    assert f"flow.second is not done; export takes the averaged weights of step 2 out of {state}" in caplog.messages
    prediction = load_pipeline(output / "model.safetensors")(torch.rand(1, 3, 40, 56))
    assert prediction.depth.shape == (1, 1, 40, 56) and prediction.depth.isfinite().all()
    assert main(["info", str(output / "model.safetensors")]) == 0
    assert "step 2, before the training's end" in capsys.readouterr().out
    assert state.read_bytes() == before and not (state.parent / "network.safetensors").exists()
    early = load_file(output / "model.safetensors")
    run_recipe(recipe, output)
    assert not alike(load_file(output / "model.safetensors"), early)
    assert alike(*(load_file(folder / "flow" / "second" / "network.safetensors") for folder in (output, whole)))
    assert "step" not in load_checkpoint(output / "model.safetensors").training


def stop_after(step, recipe, output):
    advance = loop._Run.advance

    def interrupted(run, objective):
        if run.step == step:
            raise KeyboardInterrupt
        return advance(run, objective)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Run, "advance", interrupted)
        run_recipe(recipe, output, "flow.second")


def alike(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_weights_of_the_last_state_are_the_result_with_additions_merged(trained, tmp_path):
    recipe = changed_recipe(tmp_path, "noising_step = 300", "noising_step = 300\nlora = { rank = 2 }")
    output = shutil.copytree(trained, tmp_path / "out")
    shutil.rmtree(output / "flow" / "second")
    run_recipe(recipe, output, "flow.second")
    network = untrained_network(recipe.network, output)
    network.unet.load_state_dict(load_file(output / "flow" / "first" / "network.safetensors"))
    assert take_averaged(network, recipe.flow["second"], output / "flow" / "second" / "state.pt") == 1
    assert alike(network.unet.state_dict(), load_file(output / "flow" / "second" / "network.safetensors"))


def test_a_state_of_other_settings_is_not_exported_nor_a_stage_that_never_began(trained, tmp_path):
    output = shutil.copytree(trained, tmp_path / "out")
    (output / "flow" / "second" / "network.safetensors").unlink()
    recipe = changed_recipe(tmp_path, "num_steps = 1", "num_steps = 7")
    with pytest.raises(ValueError, match=r"state.pt was saved with num_steps 1 \(now 7\)"):
        run_recipe(recipe, output, "export")
    shutil.rmtree(output / "flow" / "second")
    with pytest.raises(ValueError, match="network.safetensors is missing; run stage flow.second first"):
        run_recipe(recipe, output, "export")
