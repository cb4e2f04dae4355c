"""The recipes of the paper's models: their numbers, and a run of all stages on small trees with a small network."""

import dataclasses
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import depthfm_core.training.recipe as recipe_module
from depthfm_core.data import hypersim, vkitti2
from depthfm_core.loading import load_pipeline
from depthfm_core.model.checkpoints import load_checkpoint
from depthfm_core.model.hyperparameters import from_ldm
from depthfm_core.training.recipe import read_recipe, shorten
from depthfm_core.training.stages import run_recipe, stage_names

from .rgbd_files import write_list, write_npy, write_picture
from .sd_prior import HYPER, build_prior, write_diffusers, write_text_encoder
from .training_trees import write_hypersim, write_vkitti2

NAMES = ("depthfm_i", "depthfm_id")


def paper_recipe(name):
    return read_recipe(Path(recipe_module.__file__).with_name(f"{name}.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_the_published_one(name, published_hparams):
    assert paper_recipe(name).network.unet == from_ldm(published_hparams)


def test_the_two_models_differ_in_the_photographs_alone():
    plain, with_photos = (paper_recipe(name) for name in NAMES)
    *synthetic, photos = with_photos.frames.datasets
    assert (photos.kind, tuple(synthetic)) == ("pairs", plain.frames.datasets)
    assert dataclasses.replace(with_photos, frames=plain.frames) == plain


def test_the_shares_are_9_to_1_and_the_photographs_a_tenth_of_the_rest():
    shares = paper_recipe("depthfm_id").frames.shares
    assert shares["hypersim"] / shares["vkitti2"] == pytest.approx(9)
    assert shares["photos"] / (shares["hypersim"] + shares["vkitti2"]) == pytest.approx(0.1)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_its_source_or_is_called_ours(name):
    text = Path(recipe_module.__file__).with_name(f"{name}.toml").read_text(encoding="utf-8")
    for line in text.partition("[flow.main.loop]")[2].strip().splitlines():
        assert "ours" in line or "[diff2flow]" in line or "[fm-boosting]" in line, line


@pytest.fixture
def output(tmp_path, golden_dir):
    """An output folder with everything that the recipes name, in the layouts of the downloads."""
    folder = tmp_path / "out"
    lines = []
    for number in range(3):
        write_hypersim(folder / "hypersim", "ai_001_001", "cam_00", number, *ramp(), size=(24, 32))
        lines.append(f"ai_001_001/rgb_cam_00_fr{number:04d}.png ai_001_001/depth_plane_cam_00_fr{number:04d}.png")
    write_hypersim(folder / "hypersim", "ai_002_001", "cam_00", 5, *ramp(), size=(24, 32))
    header = "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name"
    write_list(folder / "hypersim" / hypersim.CSV_NAME, header, "ai_002_001,cam_00,5,True,,val")
    write_list(folder / "filename_list_train_filtered.txt", *lines)
    street = np.linspace(500, 65535, 20)[:, None].repeat(60, 1)
    for scene, variation, camera in product(sum(vkitti2.SPLITS.values(), ()), vkitti2.MARIGOLD_VARIATIONS, (0, 1)):
        write_vkitti2(folder / "vkitti2", scene, variation, camera, 0, street, layout="side by side")
    for number in range(102):
        write_picture(folder / "photos" / f"{number:03d}.jpg", 24, 32)
        write_npy(folder / "photos" / f"{number:03d}.npy", np.linspace(1, 30, 32)[None].repeat(24, 0))
    write_text_encoder(write_diffusers(build_prior(), folder / "stable-diffusion-2-1"))
    vae = folder / "stable-diffusion-v1-5" / "vae"
    vae.mkdir(parents=True)
    shutil.copy(golden_dir / "micro-vae-diffusers.json", vae / "config.json")
    shutil.copy(golden_dir / "micro-vae-diffusers.safetensors", vae)
    return folder


def ramp():
    """Light that grows to the right, and a wall that goes away to the right with a hole in it."""
    columns = np.linspace(0, 1, 32)
    distance_m = (1 + 8 * columns)[None].repeat(24, 0)
    distance_m[:3, :3] = np.nan
    return columns[None, :, None].repeat(24, 0).repeat(3, 2), distance_m


def smaller_batches(stage, size):
    """A flow stage with less work in each step."""
    return dataclasses.replace(stage, loop=dataclasses.replace(stage.loop, batch_size=size))


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_goes_through_every_stage_to_a_model_that_estimates_depth(name, output):
    recipe = shorten(paper_recipe(name), 2)
    views = recipe.latents["views"]
    view = dataclasses.replace(views.view, height_px=32, width_px=48)
    small = dataclasses.replace(views, view=view, views_per_frame=1)  # of the recipe's 4, for time
    network = dataclasses.replace(recipe.network, unet=HYPER)
    flow = {which: smaller_batches(stage, 16) for which, stage in recipe.flow.items()}
    recipe = dataclasses.replace(recipe, latents={"views": small}, network=network, flow=flow)
    for stage in stage_names(recipe):
        run_recipe(recipe, output, stage)
    labels = {path.stem for path in (output / "latents" / "views").iterdir()}
    assert labels == {f"{label}-0000" for label in recipe.frames.shares}
    checkpoint = load_checkpoint(output / "model.safetensors")
    assert checkpoint.noising_step == 400 and checkpoint.null_text.shape == (1, 77, 8)
    prediction = load_pipeline(output / "model.safetensors")(torch.rand(1, 3, 40, 56))
    assert prediction.depth.shape == (1, 1, 40, 56) and prediction.depth.isfinite().all()
