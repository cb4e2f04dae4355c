"""What a recipe hardly means is said, and what it means is not."""

import logging
import re
from pathlib import Path

import pytest
import torch

import depthfm_core.training.recipe as recipe_module
from depthfm_core.__main__ import main
from depthfm_core.loading import load_pipeline
from depthfm_core.model.codec import LatentCodec
from depthfm_core.training.export import save_codec
from depthfm_core.training.latents import LatentBatch
from depthfm_core.training.objective import step_random
from depthfm_core.training.recipe import read_recipe, shorten
from depthfm_core.training.recipe_warnings import warn_of_frozen_views, warn_of_recipe
from depthfm_core.training.stages import stage_names
from depthfm_core.training.velocity import draw_batch

from .test_training_recipe import TOY, write_toy, write_toy_frames
from .test_training_start import RECIPE as FINE_TUNING

LATER = """
[flow.third]
latents = ["small"]
start = "second"
[flow.third.loop]
num_steps = 200
batch_size = 2
learning_rate = 1e-3
"""


def told(recipe, caplog, output=Path("nowhere"), stages=None):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_of_recipe(recipe, output, stage_names(recipe) if stages is None else stages)
    return caplog.messages


def toy(tmp_path, seeds):
    """The toy with three flow stages, one starting from the other, of these seeds and with warm-ups that end."""
    text = TOY + LATER
    for name, seed in zip(("first", "second", "third"), seeds, strict=True):
        text = text.replace(f"[flow.{name}.loop]", f"[flow.{name}.loop]\nseed = {seed}\nwarmup_steps = 0")
    return read_recipe(write_toy(tmp_path, text.replace("[autoencoder.loop]", "[autoencoder.loop]\nwarmup_steps = 0")))


def test_a_stage_with_the_seed_of_one_that_it_builds_on_is_warned_of(tmp_path, caplog):
    assert told(toy(tmp_path, (0, 1, 2)), caplog) == []
    (message,) = told(toy(tmp_path, (4, 1, 4)), caplog)
    assert message.startswith("[flow.third.loop] has seed 4, as flow.first before it") and "another seed" in message
    assert len(told(toy(tmp_path, (0, 0, 0)), caplog)) == 3


def test_only_stages_that_are_to_begin_are_warned_of(tmp_path, caplog):
    recipe = read_recipe(write_toy(tmp_path))
    assert [message.split("]")[0] for message in told(recipe, caplog)] == [
        "[autoencoder.loop", "[flow.first.loop", "[flow.second.loop", "[flow.second.loop",
    ]  # fmt: skip
    assert len(told(recipe, caplog, tmp_path, ["flow.second"])) == 2
    for name in ("autoencoder", "flow/second"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "state.pt").touch()
    (message,) = told(recipe, caplog, tmp_path)
    assert message.startswith("[flow.first.loop] has warmup_steps")
    assert told(recipe, caplog, tmp_path, ["frames", "flow.second", "export"]) == []


def test_stages_on_other_latents_or_from_no_other_stage_may_share_a_seed(tmp_path, caplog):
    text = TOY.replace("[network]", "[latents.large]\nview = { height_px = 32, width_px = 64 }\n[network]")
    text = text.replace("num_steps", "warmup_steps = 0\nnum_steps")
    other = text.replace('[flow.second]\nlatents = ["small"]', '[flow.second]\nlatents = ["large"]')
    assert told(read_recipe(write_toy(tmp_path, other)), caplog) == []
    assert told(read_recipe(write_toy(tmp_path, text.replace('start = "first"\n', ""))), caplog) == []
    assert len(told(read_recipe(write_toy(tmp_path, text)), caplog)) == 1


class _Numbered:
    """Latents whose views tell their number."""

    def draw(self, size, rng):
        image = torch.from_numpy(rng.integers(10**6, size=size)).float()[:, None, None, None].expand(-1, 4, 2, 2)
        return LatentBatch(image, image, torch.ones(size, 1, 2, 2, dtype=torch.bool))


@pytest.mark.parametrize(("seeds", "same"), [((0, 0, 0), True), ((0, 1, 2), False)])
def test_it_is_the_seed_that_makes_a_later_stage_draw_the_same(tmp_path, seeds, same):
    recipe = toy(tmp_path, seeds)
    first, third = (
        draw_batch(_Numbered(), stage, step_random(stage.loop.seed, 5))
        for stage in (recipe.flow["first"], recipe.flow["third"])
    )
    for name in ("image_latent", "noise", "t"):
        assert torch.equal(getattr(first, name), getattr(third, name)) == same


def test_a_warm_up_that_never_ends_is_warned_of_where_the_user_sees_it(tmp_path, capsys):
    write_toy_frames(tmp_path)
    assert main(["train", str(write_toy(tmp_path)), "--output", str(tmp_path), "--stage", "flow.first"]) == 2
    said, log = capsys.readouterr().err, (tmp_path / "train.log").read_text(encoding="utf-8")
    for text in (said, log):
        assert (
            "[flow.first.loop] has warmup_steps 100 and num_steps 2, so its learning rate never reaches 0.001" in text
        )
        assert "[autoencoder.loop]" not in text  # which this run does not train


def test_an_autoencoder_whose_latents_the_start_does_not_know_is_warned_of(tmp_path, caplog):
    own = load_pipeline("nano").codec
    save_codec(own, tmp_path / "own")
    save_codec(LatentCodec(own.autoencoder, 2 * own.scaling_factor), tmp_path / "other")
    text = FINE_TUNING.replace("[network]", '[autoencoder]\npath = "own"\n[network]')
    assert told(read_recipe(write_toy(tmp_path, text)), caplog, tmp_path) == []
    other = read_recipe(write_toy(tmp_path, text.replace('"own"', '"other"')))
    (message,) = told(other, caplog, tmp_path)
    assert "path other, whose latents are 100 % off those that nano" in message and "leave path out" in message
    assert told(other, caplog, tmp_path, ["export"]) == []


def frozen(tmp_path, caplog, recipe_text, frames=20):
    """What is told of fine-tuning for 200 steps of two views."""
    caplog.clear()
    text = recipe_text.replace("num_steps = 2\nbatch_size = 2", "num_steps = 200\nbatch_size = 2")
    warn_of_frozen_views(read_recipe(write_toy(tmp_path, text)), tmp_path, "small", frames)
    return caplog.messages


def test_views_that_are_drawn_again_and_again_are_warned_of(tmp_path, caplog):
    (message,) = frozen(tmp_path, caplog, FINE_TUNING)
    said = "flow.tuned draws each of 20 frames 20 times, always with the same crop and mirroring and the same change of"
    assert message.startswith(said) and "raise views_per_frame in [latents.small]" in message
    assert (
        frozen(tmp_path, caplog, FINE_TUNING.replace("[latents.small]", "[latents.small]\nviews_per_frame = 4")) == []
    )
    assert frozen(tmp_path, caplog, FINE_TUNING, frames=40) == []
    (tmp_path / "flow/tuned").mkdir(parents=True)
    (tmp_path / "flow/tuned/state.pt").touch()
    assert frozen(tmp_path, caplog, FINE_TUNING) == []


@pytest.mark.parametrize(
    ("view", "random"),
    [
        ("min_scale = 1.0, aspect_jitter = 0.0, flip_probability = 0.0", False),
        ("min_scale = 1.0, aspect_jitter = 0.0, flip_probability = 1.0", False),
        ("min_scale = 1.0, aspect_jitter = 0.0, flip_probability = 0.5", True),
        ("min_scale = 0.9, aspect_jitter = 0.0, flip_probability = 0.0", True),
        ("min_scale = 1.0, aspect_jitter = 0.1, flip_probability = 0.0", True),
    ],
)
def test_views_that_keep_their_colors_are_warned_of_where_crop_or_mirroring_is_random(tmp_path, caplog, view, random):
    paper = Path(recipe_module.__file__).with_name("depthfm_i.toml").read_text(encoding="utf-8")
    still = re.search(r"\[photometry\]\n(?:.+\n)+", paper)[0]
    text = FINE_TUNING.replace("width_px = 96", f"width_px = 96, {view}").replace("[network]", f"{still}\n[network]")
    messages = frozen(tmp_path, caplog, text)
    assert ["always with the same crop and mirroring; raise" in message for message in messages] == [True] * random


@pytest.mark.parametrize("name", ["depthfm_i", "depthfm_id"])
def test_the_recipes_of_the_paper_show_each_frame_in_several_views(name, tmp_path, caplog):
    recipe = read_recipe(Path(recipe_module.__file__).with_name(f"{name}.toml"))
    warn_of_frozen_views(recipe, tmp_path, "views", 74_033)
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["nano", "nano_cpu", "depthfm_i", "depthfm_id"])
def test_the_recipes_that_ship_raise_no_warnings_also_with_few_steps(name, caplog):
    recipe = read_recipe(Path(recipe_module.__file__).with_name(f"{name}.toml"))
    assert told(recipe, caplog) == told(shorten(recipe, 2), caplog) == told(shorten(recipe, 1), caplog) == []


def test_a_training_that_is_short_already_keeps_its_warm_up(tmp_path):
    recipe = read_recipe(write_toy(tmp_path))
    assert shorten(recipe, 2) == recipe
    assert [stage.loop.warmup_steps for stage in shorten(recipe, 1).flow.values()] == [0, 100]
