"""Only one run trains in a folder at a time."""

import logging
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn

from depthfm_core.share import Share
from depthfm_core.training import inputs
from depthfm_core.training.loop import LoopSettings, train
from depthfm_core.training.objective import Objective
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.record import write_record
from depthfm_core.training.stages import run_recipe
from depthfm_core.training.state import only_one

from .test_replacing import leave_half_written
from .test_training_recipe import TOY, write_toy, write_toy_frames

LOOP = LoopSettings(num_steps=2, batch_size=1, learning_rate=1e-2, warmup_steps=1, save_every=1, mixed_precision="no")
HOLDING = """
import sys
from pathlib import Path
from depthfm_core.training.state import only_one

with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


class Step(NamedTuple):
    number: Tensor


def train_toy(folder):
    """Two steps of a toy, or what is missing of them."""
    objective = Objective(lambda _: Step(torch.ones(1)), lambda model, step: {"line": model(step.number).square()})
    train(nn.Linear(1, 1, bias=False), objective, LOOP, folder)


@contextmanager
def held_by_another(folder):
    """A process that holds a folder as a training does."""
    command = [sys.executable, "-c", HOLDING, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def other_run(tmp_path):
    with held_by_another(tmp_path / "flow") as process:
        yield process


def test_a_second_run_ends_before_it_touches_the_first_ones_files(other_run, tmp_path):
    half_written = leave_half_written(tmp_path / "flow" / "state.pt")
    with pytest.raises(ValueError, match="Another run trains in .*flow; wait for its end or stop it"):
        train_toy(tmp_path / "flow")
    assert [path.name for path in (tmp_path / "flow").iterdir()] == [half_written.name]


def test_a_killed_run_keeps_nobody_out(other_run, tmp_path):
    other_run.kill()
    other_run.wait()
    train_toy(tmp_path / "flow")
    assert (tmp_path / "flow" / "state.pt").exists()


def test_a_run_that_ended_or_failed_keeps_nobody_out(tmp_path):
    with pytest.raises(KeyboardInterrupt), only_one(tmp_path / "flow"):
        raise KeyboardInterrupt
    train_toy(tmp_path / "flow")
    train_toy(tmp_path / "flow")


def test_trainings_beside_each_other_do_not_disturb(other_run, tmp_path):
    train_toy(tmp_path / "other")
    assert (tmp_path / "other" / "state.pt").exists()


@pytest.mark.parametrize("error", [OSError("No locks available"), NotImplementedError("flock")])
def test_a_disk_without_locks_is_told_and_trained_on(tmp_path, monkeypatch, caplog, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    caplog.set_level(logging.INFO)
    train_toy(tmp_path / "flow")
    assert f"cannot be locked ({error}); start no second run in it" in caplog.text


def test_a_second_run_leaves_the_records_and_results_of_the_first_one(tmp_path):
    write_toy_frames(tmp_path)
    run_recipe(read_recipe(write_toy(tmp_path, TOY.replace('"frames", "more"', '"frames"'))), tmp_path)
    shutil.rmtree(tmp_path / "flow" / "second")
    (tmp_path / "flow" / "first" / "network.safetensors").unlink()  # as before the end of a training
    before = contents(tmp_path / "recipes") | contents(tmp_path / "flow") | contents(tmp_path / "autoencoder")
    with held_by_another(tmp_path / "flow" / "first"), pytest.raises(ValueError, match="Another run trains in .*first"):
        run_recipe(read_recipe(write_toy(tmp_path)), tmp_path)
    assert (tmp_path / "latents" / "small" / "more-0000.safetensors").exists()
    assert contents(tmp_path / "recipes") | contents(tmp_path / "flow") | contents(tmp_path / "autoencoder") == before


def test_a_second_run_does_not_write_its_settings_over_those_of_one_that_has_saved_nothing_yet(tmp_path):
    write_toy_frames(tmp_path)
    recipe = read_recipe(write_toy(tmp_path))
    for stage in ("frames", "autoencoder", "latents.small"):
        run_recipe(recipe, tmp_path, stage)
    write_record(recipe, tmp_path, "flow.first")
    before = contents(tmp_path / "recipes")
    other = read_recipe(write_toy(tmp_path, TOY.replace("model_channels = 32", "model_channels = 64")))
    with held_by_another(tmp_path / "flow" / "first"), pytest.raises(ValueError, match="Another run trains in .*first"):
        run_recipe(other, tmp_path, "flow.first")
    assert contents(tmp_path / "recipes") == before
    run_recipe(other, tmp_path, "flow.first")
    assert contents(tmp_path / "recipes") != before


def contents(folder):
    """Of all files below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_more_processes_than_a_batch_has_samples_are_refused_before_anything_is_made(tmp_path, monkeypatch):
    write_toy_frames(tmp_path)
    recipe = read_recipe(write_toy(tmp_path))
    monkeypatch.setattr(inputs, "this_share", lambda: Share(0, 1000))
    with pytest.raises(ValueError, match=r"batch_size is \d+, for 1000 processes together"):
        run_recipe(recipe, tmp_path)
    assert not (tmp_path / "autoencoder").exists()
