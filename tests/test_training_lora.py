"""Low-rank adaptation of a flow stage, through `peft`."""

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file

from depthfm_core.training import loop, stages
from depthfm_core.training.engine import Engine
from depthfm_core.training.lora import LoraSettings, add_lora, merge_lora
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.stages import run_recipe
from depthfm_core.training.velocity import build_network

from .sd_prior import HYPER
from .test_training_recipe import TOY, write_toy, write_toy_frames

X, Z = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
T = torch.tensor([0.1, 0.8])
LORA = LoraSettings(rank=2, alpha=4.0)


def velocity(network):
    with torch.no_grad():
        return network(X, T, Z)


def learn(network):
    """Stands for training: changes everything that may be trained."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_additions_are_nothing_at_first_and_the_merged_network_computes_what_they_did():
    network = build_network(HYPER, 2, seed=0).eval()
    before = {name: tensor.clone() for name, tensor in network.unet.state_dict().items()}
    untrained = velocity(network)
    add_lora(network.unet, LORA, seed=0)
    torch.testing.assert_close(velocity(network), untrained, rtol=0, atol=1e-5)  # some CPUs round by where memory lies
    learn(network)
    learned = velocity(network)
    merge_lora(network.unet)
    torch.testing.assert_close(velocity(network), learned, rtol=0, atol=1e-5)
    assert not torch.allclose(learned, untrained, atol=1e-2)
    after = network.unet.state_dict()
    assert list(after) == list(before)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    kinds = ("conv_in.weight", "to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")
    assert {kind for kind in kinds for name in changed if name.endswith(kind)} == set(kinds)
    assert all(name.endswith(kinds) for name in changed)
    name = next(name for name in changed if name.endswith("to_q.weight"))
    assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) == LORA.rank


def test_the_additions_depend_on_the_seed_and_leave_the_global_generator_alone():
    def first_addition(seed):
        network = build_network(HYPER, 2, seed=0)
        add_lora(network.unet, LORA, seed)
        trained = [p for p in network.parameters() if p.requires_grad]
        assert sum(p.numel() for p in trained) < sum(p.numel() for p in network.parameters()) / 10
        return trained[0].detach()

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (first_addition(seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_alpha_over_rank_is_the_scale():
    def moved(alpha):
        network = build_network(HYPER, 2, seed=0)
        before = network.unet.conv_in.weight.clone()
        add_lora(network.unet, dataclasses.replace(LORA, alpha=alpha), seed=0)
        learn(network)
        merge_lora(network.unet)
        return network.unet.conv_in.weight - before

    torch.testing.assert_close(moved(8.0), 2 * moved(4.0), rtol=1e-3, atol=1e-5)


def test_an_interrupted_training_of_additions_ends_where_an_unbroken_one_does(tmp_path):
    output = tmp_path / "out"
    write_toy_frames(output)
    text = TOY.replace("noising_step = 300", "lora = { rank = 2 }")
    recipe = read_recipe(write_toy(tmp_path, text.replace("num_steps = 1", "num_steps = 3\nsave_every = 1")))
    run_recipe(recipe, output)
    unbroken = load_file(output / "flow" / "second" / "network.safetensors")
    shutil.rmtree(output / "flow" / "second")
    advance = loop._Run.advance

    def stop_after_two(run, objective):
        if run.step == 2:
            raise KeyboardInterrupt
        return advance(run, objective)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Run, "advance", stop_after_two)
        run_recipe(recipe, output, "flow.second")
    run_recipe(recipe, output, "flow.second")
    resumed = load_file(output / "flow" / "second" / "network.safetensors")
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def test_settings_without_effect_and_unknown_layers_are_refused():
    for wrong in ({"rank": 0}, {"alpha": -1.0}, {"layers": ()}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            dataclasses.replace(LORA, **wrong)
    network = build_network(HYPER, 2, seed=0)
    with pytest.raises(ValueError, match="no layer 'to_z'"):
        add_lora(network.unet, dataclasses.replace(LORA, layers=("to_q", "to_z")), seed=0)


def test_a_stage_with_lora_hands_on_an_ordinary_network_and_resumes(tmp_path, monkeypatch):
    output = tmp_path / "out"
    write_toy_frames(output)
    text = TOY.replace("noising_step = 300", "lora = { rank = 2 }")
    text = text.replace("num_steps = 1", "num_steps = 2\nwarmup_steps = 1")
    recipe = read_recipe(write_toy(tmp_path, text))
    run_recipe(recipe, output)
    first, second = (load_file(output / "flow" / name / "network.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys()
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert "conv_in.weight" in changed and not any(".conv1." in name for name in changed)
    monkeypatch.setattr(Engine, "backward", lambda *_args: pytest.fail("it trained again"))
    run_recipe(recipe, output, "flow.second")
    again = load_file(output / "flow" / "second" / "network.safetensors")
    assert all(torch.equal(second[name], again[name]) for name in second)


def test_a_stage_that_is_done_reads_and_writes_nothing_again_and_one_begun_anew_drops_the_old_result(tmp_path):
    output = tmp_path / "out"
    write_toy_frames(output)
    recipe = read_recipe(write_toy(tmp_path, TOY.replace("noising_step = 300", "lora = { rank = 2 }")))
    run_recipe(recipe, output)
    network = output / "flow" / "second" / "network.safetensors"
    before = network.stat().st_mtime_ns
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_latent_set", "encode_held_out", "train_velocity"):
            patch.setattr(stages, name, lambda *_args: pytest.fail("it was done again"))
        run_recipe(recipe, output, "flow.second")
    assert network.stat().st_mtime_ns == before
    (network.parent / "state.pt").unlink()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Run, "advance", lambda *_args: (_ for _ in ()).throw(KeyboardInterrupt))
        run_recipe(recipe, output, "flow.second")
    assert not network.exists()
