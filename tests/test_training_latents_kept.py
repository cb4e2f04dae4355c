"""Which latents that are there already a run goes on with, and which it refuses."""

import shutil

import pytest

from depthfm_core import __version__
from depthfm_core.model.codec import LatentCodec, load_codec
from depthfm_core.training.autoencoder import AutoencoderSettings, build_autoencoder
from depthfm_core.training.export import save_codec
from depthfm_core.training.latents import LatentSet
from depthfm_core.training.precompute import describe
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.shards import open_shard
from depthfm_core.training.stages import run_recipe

from .precomputing import RECIPE, with_holes


def test_latents_stay_where_the_setting_says_what_their_kind_does_and_are_refused_where_not(precompute, output):
    rendered = 'datasets = ["rendered"]\n'
    written, _ = precompute("--latents", "small", recipe=with_holes(output, f"{rendered}sky_is_far = true"))
    assert precompute("--latents", "small", recipe=with_holes(output, rendered))[0] == written
    precompute("--latents", "small", recipe=with_holes(output, "sky_is_far = true"))
    _, said = precompute("--latents", "small", recipe=with_holes(output), code=2)
    assert "pairs-0000.safetensors was made with another sky_is_far" in said.err


def test_a_flow_stage_refuses_latents_whose_holes_the_recipe_takes_for_something_else(precompute, output, tmp_path):
    """The stage alone does not make latents, which would tell."""
    far, own = with_holes(output, "sky_is_far = true"), with_holes(output)
    precompute("--latents", "small", recipe=far)
    (tmp_path / "own.toml").write_text(own, encoding="utf-8")
    with pytest.raises(ValueError, match="pairs-0000.safetensors was made with another sky_is_far"):
        run_recipe(read_recipe(tmp_path / "own.toml"), output, "flow.main")
    assert not (output / "flow" / "main" / "state.pt").exists()
    run_recipe(read_recipe(tmp_path / "recipe.toml"), output, "flow.main")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("[autoencoder]", "[normalization]\nfar_percentile = 99.0\n[autoencoder]", "normalization"),
        ("[autoencoder]", "[photometry]\nnoise = 0.5\n[autoencoder]", "photometry"),
        ("width_px = 24", "width_px = 32", "view"),
        ("views_per_frame = 2", "views_per_frame = 3", "views_per_frame"),
        ("views_per_frame = 2", "views_per_frame = 2\nseed = 1", "seed"),
        ("views_per_frame = 2", "views_per_frame = 2\nsky_is_far = false", "sky_is_far"),
        ("frames_per_shard = 2", "frames_per_shard = 3", "frames_per_shard and frames"),
        ("held_out = 1", "held_out = 2", "frames"),
    ],
)
def test_latents_of_another_recipe_are_not_gone_on_with(precompute, old, new, named):
    written, _ = precompute("--latents", "small")
    kept, said = precompute("--latents", "small", recipe=RECIPE.replace(old, new), code=2)
    assert f"frames-0000.safetensors was made with another {named} than this recipe's" in said.err and kept == written


def test_latents_of_frames_of_the_same_names_in_another_folder_are_not_gone_on_with(precompute, output):
    """As of photographs that another teacher labeled."""
    in_one, in_other = (RECIPE.replace("held_out = 1", f'held_out = 1\nfolders = ["{name}/frames"]') for name in "ab")
    for name in "ab":
        shutil.copytree(output / "frames", output / name / "frames")
    written, _ = precompute("--latents", "small", recipe=in_one)
    kept, said = precompute("--latents", "small", recipe=in_other, code=2)
    assert "was made with another frames than this recipe's" in said.err and kept == written


def test_shards_that_the_recipe_would_not_write_are_refused(precompute, output):
    precompute("--latents", "small")
    tar = RECIPE.replace("frames_per_shard = 2", 'frames_per_shard = 2\nformat = "webdataset"')
    _, said = precompute("--latents", "small", recipe=tar, code=2)
    assert "frames-0000.safetensors and 2 more" in said.err and "frames-0000.tar to frames-0002.tar" in said.err
    for path in output.glob("frames/005*"):
        path.unlink()
    assert "frames-0002.safetensors and 0 more" in precompute("--latents", "small", code=2)[1].err


def test_a_flow_stage_refuses_latents_of_which_a_part_is_missing(precompute, output, tmp_path):
    precompute("--latents", "small")
    (output / "latents" / "small" / "frames-0001.safetensors").unlink()
    recipe = read_recipe(tmp_path / "recipe.toml")
    with pytest.raises(ValueError, match="small has 2 of 3 shards; frames-0001.safetensors is missing.*latents.small"):
        run_recipe(recipe, output, "flow.main")
    precompute("--latents", "small")
    for path in output.glob("frames/005*"):  # frames that are gone by now are in their latents
        path.unlink()
    run_recipe(recipe, output, "flow.main")
    (output / "latents" / "small" / "frames-0001.safetensors").unlink()
    run_recipe(recipe, output, "flow.main")  # done, so its latents are not needed


def test_latents_know_the_weights_that_made_them_and_not_their_file(precompute, output, tmp_path):
    precompute("--latents", "small")
    shard = open_shard(output / "latents" / "small" / "frames-0000.safetensors")
    assert shard.origin["depthfm"] == __version__ and shard.origin["seed"] == 0
    recipe, codec = read_recipe(tmp_path / "recipe.toml"), load_codec(output / "codec")
    origin = describe(recipe.latents["small"], recipe.photometry, recipe.normalization, codec)
    (output / "codec").rename(output / "moved")
    moved = load_codec(output / "moved")
    assert origin == describe(recipe.latents["small"], recipe.photometry, recipe.normalization, moved)
    moved.scaling_factor = 0.6
    assert origin != describe(recipe.latents["small"], recipe.photometry, recipe.normalization, moved)
    next(codec.parameters()).data[0] += 1e-3
    other = describe(recipe.latents["small"], recipe.photometry, recipe.normalization, codec)
    assert [key for key in origin if origin[key] != other[key]] == ["autoencoder"]
    LatentSet([shard.path.parent], origins=[origin])
    with pytest.raises(ValueError, match="was made with another autoencoder than this recipe's; delete it"):
        LatentSet([shard.path.parent], origins=[other])


def test_a_flow_stage_refuses_latents_of_another_autoencoder(precompute, output, tmp_path):
    precompute("--latents", "small")
    save_codec(LatentCodec(build_autoencoder(AutoencoderSettings(), seed=1), 0.5), output / "codec")
    with pytest.raises(ValueError, match="another autoencoder"):
        run_recipe(read_recipe(tmp_path / "recipe.toml"), output, "flow.main")
