"""Training by two processes, started as the documentation says, against training by one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from depthfm_core.share import Share
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.stages import run_recipe
from depthfm_core.training.velocity import build_network

from .ports import free_port
from .test_training_recipe import TOY, write_toy, write_toy_frames
from .training_worker import TOY as NETWORK
from .training_worker import run, write_latents

ROOT = Path(__file__).parent.parent
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]


def launch(folder, *arguments):
    """Runs Python with the arguments, on the CPU and without the user's own configuration of accelerate."""
    own = {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HOME": str(folder)}
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Weights and losses by the name of the run: two processes', and one's, which goes on where two broke off."""
    folder = tmp_path_factory.mktemp("processes")
    write_latents(folder / "latents")
    one = {"one": run(folder, "one", Share())}
    run(folder, "one_broken", Share(), stop=2)
    launch(folder, *TORCHRUN, Path(__file__).with_name("training_worker.py"), folder)
    first, second = (torch.load(folder / f"process{index}.pt", weights_only=True) for index in (0, 1))
    for name in first:
        assert all(torch.equal(first[name][0][key], second[name][0][key]) for key in first[name][0])
        assert first[name][1] == second[name][1]  # the losses of all processes together
    return one | first | {"one_from_two": run(folder, "two_broken", Share())}


def velocity(weights):
    """What a network computes; some weights have no effect, and Adam makes whole steps of their gradients' rounding."""
    network = build_network(NETWORK, 2, seed=0).eval()
    network.unet.load_state_dict(weights)
    x_t, image_latent = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return network(x_t, torch.tensor([0.3]), image_latent)


@pytest.mark.parametrize("name", ["two", "one_broken", "one_from_two", "two_resumed"])
def test_any_number_of_processes_at_any_time_gives_the_losses_and_network_of_one(trained, name):
    (expected, losses), (weights, own_losses) = trained["one"], trained[name]
    assert own_losses == pytest.approx(losses[-len(own_losses) :], rel=1e-5) and len(set(losses)) == 4
    torch.testing.assert_close(velocity(weights), velocity(expected), rtol=0, atol=1e-5)


def test_a_resumed_training_of_two_processes_equals_an_unbroken_one_bit_for_bit(trained):
    straight, resumed = trained["two"], trained["two_resumed"]
    assert all(torch.equal(straight[0][key], resumed[0][key]) for key in straight[0])
    assert len(resumed[1]) == 2 and resumed[1] == straight[1][2:]


def test_a_recipe_run_by_two_processes_gives_the_model_of_one_and_one_log(tmp_path):
    text = re.sub("batch_size = 2", 'batch_size = 3\nmixed_precision = "no"', TOY)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    path = write_toy(tmp_path, text)
    for output in (alone, shared):
        write_toy_frames(output)
    run_recipe(read_recipe(path), alone)
    port = ("--main_process_port", free_port())  # 0 for any waits for ever under PyTorch 2.6
    done = launch(tmp_path, *ACCELERATE, *port, "-m", "depthfm_core", "train", path, "--output", shared)
    for file in ("autoencoder/diffusion_pytorch_model", "latents/small/more-0000", "flow/second/network", "model"):
        one, two = (load_file(output / f"{file}.safetensors") for output in (alone, shared))
        for key in one:
            torch.testing.assert_close(two[key], one[key], rtol=0, atol=1e-4)
    log = (shared / "train.log").read_text(encoding="utf-8")
    assert log.count("stage export") == log.count("first step 1: loss") == 1
    assert done.stderr.count("100%") and "small: 100%" in done.stderr and "1/1" in done.stderr  # half of two shards
