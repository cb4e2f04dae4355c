"""What a training shows: the log, TensorBoard's event files read back, and the pictures."""

import dataclasses
import logging
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from depthfm_core import load_pipeline
from depthfm_core.data.sample import DepthSample
from depthfm_core.evaluation.metrics import METRICS
from depthfm_core.training import validation
from depthfm_core.training.augment import ViewSettings
from depthfm_core.training.autoencoder import AutoencoderSettings, build_autoencoder, check_reconstruction
from depthfm_core.training.loop import LoopSettings, train
from depthfm_core.training.objective import Objective
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.sources import Frame
from depthfm_core.training.stages import run_recipe
from depthfm_core.training.validation import HeldOut, check_estimates, encode_held_out
from depthfm_core.training.watch import Checked, titled

from .test_training_recipe import TOY, write_toy, write_toy_frames

LOOP = LoopSettings(
    num_steps=25, batch_size=2, learning_rate=1e-2, warmup_steps=1, save_every=12, mixed_precision="no",
    schedule="constant",
)  # fmt: skip


class Step(NamedTuple):
    """The batch of a toy: the number of its step."""

    number: Tensor


def objective(stop=None):
    """A loss that is the number of the step; interrupted at step `stop`."""

    def draw(random):
        if random.step == stop:
            raise KeyboardInterrupt
        return Step(torch.tensor([random.step + 1.0]))

    return Objective(draw, lambda model, batch: {"number": model.bias.sum() * 0 + batch.number.sum()})


def run(folder, stop=None, settings=LOOP):
    def check():
        return Checked({"score": 0.25}, torch.full((3, 4, 6), 0.5))

    train(nn.Linear(1, 1), objective(stop), settings, folder / "toy", check, events=folder / "events")


def scalars(folder, tag):
    """The steps and values under a tag, as TensorBoard shows them."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
    return {event.step: event.value for event in events.Scalars(tag)}, len(events.Scalars(tag))


def test_curves_hold_losses_rates_norms_and_speed(tmp_path):
    run(tmp_path)
    assert scalars(tmp_path / "events", "train/number")[0] == {1: 1, 10: 10, 20: 20}
    assert scalars(tmp_path / "events", "train/loss")[0] == {1: 1, 10: 10, 20: 20}
    assert scalars(tmp_path / "events", "train/learning_rate")[0] == pytest.approx({1: 0, 10: 1e-2, 20: 1e-2})
    assert scalars(tmp_path / "events", "train/gradient_norm")[0] == {1: 0, 10: 0, 20: 0}
    assert all(speed > 0 for speed in scalars(tmp_path / "events", "train/samples_per_second")[0].values())
    assert scalars(tmp_path / "events", "check/score")[0] == {0: 0.25, 12: 0.25, 24: 0.25, 25: 0.25}


def test_pictures_of_checks_are_in_the_events_and_beside_the_state(tmp_path):
    run(tmp_path)
    images = EventAccumulator(str(tmp_path / "events"), size_guidance={"images": 0}).Reload().Images("check/picture")
    assert [(image.step, image.width, image.height) for image in images] == [(s, 6, 4) for s in (0, 12, 24, 25)]
    names = sorted(path.name for path in (tmp_path / "toy").glob("*.png"))
    assert names == [f"check-0000{step}.png" for step in ("00", "12", "24", "25")]
    assert set(np.array(Image.open(tmp_path / "toy" / names[0])).flat) == {128}


def test_a_resumed_training_has_each_step_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=22)  # 20 is recorded, and done again after the state of step 12
    time.sleep(1.1)  # the reader sorts files by name, which begins with the second; a counter behind it sorts as text
    run(tmp_path)
    steps, count = scalars(tmp_path / "events", "train/number")
    assert sorted(steps) == [1, 10, 20] and count == 3
    assert scalars(tmp_path / "events", "check/score")[1] == 4


def test_a_training_that_begins_again_before_its_first_state_has_its_start_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=5)
    time.sleep(1.1)  # as above
    run(tmp_path)
    assert scalars(tmp_path / "events", "check/score")[1] == 4


def test_a_finished_training_writes_no_more_events(tmp_path):
    run(tmp_path)
    before = sorted((tmp_path / "events").iterdir())
    run(tmp_path)
    assert sorted((tmp_path / "events").iterdir()) == before and len(before) == 1


def test_without_tensorboard_a_training_goes_on_and_says_so_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    caplog.set_level(logging.INFO)
    run(tmp_path)
    assert caplog.text.count('pip install -e ".[train]"') == 1
    assert not (tmp_path / "events").exists() and (tmp_path / "toy" / "check-000025.png").exists()


def test_the_log_holds_some_steps_and_every_check(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run(tmp_path, settings=dataclasses.replace(LOOP, num_steps=50, save_every=50))
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("toy step")]
    assert [line.partition(":")[0] for line in lines] == [f"toy step {step}" for step in (0, 1, 50, 50)]
    assert "number 50, gradient_norm 0, learning_rate 0.01" in lines[2]
    assert (lines[0], lines[3]) == ("toy step 0: score 0.25", "toy step 50: score 0.25")


def held_out(frames=3):
    """Frames of one ramp in depth, of which the last has no depth at all."""
    depth_m = torch.linspace(1, 10, 48).expand(frames, 1, 32, 48).clone()
    valid = torch.ones_like(depth_m, dtype=torch.bool)
    valid[-1] = False
    return HeldOut(torch.zeros(frames, 4, 4, 6), depth_m, valid, torch.full((frames, 3, 32, 48), 0.5))


def test_held_out_frames_of_which_none_has_depth_are_refused():
    sample = DepthSample(torch.zeros(3, 32, 48), torch.zeros(1, 32, 48), torch.zeros(1, 32, 48, dtype=torch.bool))
    with pytest.raises(ValueError, match="None of the 2 held-out frames has depth"):
        encode_held_out([Frame("a", "b", lambda: sample)] * 2, ViewSettings(32, 48), load_pipeline("nano").codec)


def test_a_perfect_estimate_has_perfect_scores_whatever_its_scale_and_shift(monkeypatch):
    frames = held_out()
    monkeypatch.setattr(validation, "estimate", lambda *_: 0.2 * frames.depth_m.log() - 0.5)
    checked = check_estimates(None, None, frames, 400)
    assert checked.scores["abs_rel"] == pytest.approx(0, abs=1e-5) and checked.scores["delta1"] == 1
    assert set(METRICS) <= set(checked.scores) and checked.scores["boundary_f1"] <= 1


def test_several_data_sets_have_scores_of_their_own_beside_the_mean(monkeypatch):
    frames = held_out(4)._replace(data_sets=("rooms", "rooms", "streets", "streets"))
    log_depth = frames.depth_m.log().clone()
    log_depth[2, :, :, ::2] += 1  # streets are estimated badly; the last one has no depth
    monkeypatch.setattr(validation, "estimate", lambda *_: log_depth)
    scores = check_estimates(None, None, frames, 400).scores
    assert scores["rooms/delta1"] == 1 and scores["streets/delta1"] < 0.6
    assert scores["delta1"] == pytest.approx((2 * scores["rooms/delta1"] + scores["streets/delta1"]) / 3)
    assert {name.partition("/")[2] for name in scores if "/" in name} == {name for name in scores if "/" not in name}
    alone = check_estimates(None, None, frames._replace(data_sets=("rooms",) * 4), 400).scores
    assert alone == {name: score for name, score in scores.items() if "/" not in name}


def test_the_picture_shows_frames_with_depth_and_what_is_wrong_in_the_last_panel(monkeypatch):
    frames = held_out()
    wrong = frames.depth_m.log().clone()
    wrong[:, :, :16] += 1
    pictures = []
    for log_depth in (frames.depth_m.log(), wrong):
        monkeypatch.setattr(validation, "estimate", lambda *_, log_depth=log_depth: log_depth)
        pictures.append(check_estimates(None, None, frames, 400).picture[:, 16:])
    right, wrong = (picture.chunk(4, dim=2) for picture in pictures)
    assert pictures[0].shape == (3, 2 * 240, 4 * 360)
    assert right[0].sub(0.5).abs().max() < 0.01 and torch.equal(right[0], wrong[0])
    torch.testing.assert_close(right[1], right[2], rtol=0, atol=0.01)  # the estimate is the depth
    assert right[3].mean() < 0.01 < 0.1 < wrong[3].mean()


def test_a_check_of_the_autoencoder_shows_each_picture_beside_what_became_of_it():
    autoencoder = build_autoencoder(AutoencoderSettings(), seed=0)
    checked = check_reconstruction(autoencoder, torch.zeros(4, 3, 32, 32))
    assert checked.picture.shape == (3, 16 + 2 * 32, 4 * 32)
    assert checked.picture[:, 16:, :32].eq(0.5).all()
    assert set(checked.scores) == {"image_psnr_db", "depth_psnr_db"}


def test_titles_stand_above_their_columns():
    picture = titled([torch.zeros(3, 8, 200), torch.zeros(3, 8, 200)], ["left", "right"])
    assert picture.shape == (3, 32, 200)
    columns = picture.amax((0, 1)).gt(0.5).nonzero()[:, 0]
    assert 0 < columns.min() < 20 and 100 < columns[columns > 50].min() < 120


def test_a_recipe_leaves_curves_and_pictures_of_every_training(tmp_path):
    write_toy_frames(tmp_path)
    run_recipe(read_recipe(write_toy(tmp_path, TOY)), tmp_path)
    assert sorted(path.name for path in (tmp_path / "events").iterdir()) == ["autoencoder", "flow.first", "flow.second"]
    for tag in ("check/abs_rel", "check/frames/abs_rel", "check/more/abs_rel"):
        assert list(scalars(tmp_path / "events" / "flow.first", tag)[0]) == [0, 2]
    assert list(scalars(tmp_path / "events" / "autoencoder", "check/image_psnr_db")[0]) == [0, 2]
    for name in ("autoencoder/check-000002.png", "flow/first/check-000002.png", "flow/second/check-000001.png"):
        assert np.array(Image.open(tmp_path / name)).std() > 10
