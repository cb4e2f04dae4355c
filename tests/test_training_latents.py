"""Latents ahead: the command `precompute`, the files it writes, and batches out of them."""

import os
import shutil
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from depthfm_core import __version__
from depthfm_core.__main__ import main
from depthfm_core.data.folder import read_frame, write_frame
from depthfm_core.evaluation.share import Share
from depthfm_core.model.codec import LatentCodec, load_codec
from depthfm_core.training import latents
from depthfm_core.training import precompute as stages_precompute
from depthfm_core.training.augment import PhotometricSettings, ViewSettings
from depthfm_core.training.autoencoder import AutoencoderSettings, build_autoencoder
from depthfm_core.training.export import save_codec
from depthfm_core.training.latents import LatentSet, LatentSettings, encode
from depthfm_core.training.normalize import NormalizationSettings
from depthfm_core.training.precompute import describe, summarize, write_latents
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.shards import open_shard
from depthfm_core.training.sources import Frame
from depthfm_core.training.stages import run_recipe

from .test_training_data import scene

RECIPE = """
[frames]
held_out = 1
[autoencoder]
path = "codec"
[latents.small]
frames_per_shard = 2
views_per_frame = 2
view = { height_px = 16, width_px = 24 }
[latents.large]
frames_per_shard = 4
format = "webdataset"
view = { height_px = 24, width_px = 32 }
[network.unet]
model_channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
attention_resolutions = [2]
context_dim = 8
[flow.main]
latents = ["small"]
[flow.main.loop]
num_steps = 1
batch_size = 2
learning_rate = 1e-3
"""


@pytest.fixture
def output(tmp_path):
    """The output folder of a recipe with six frames, one of them held out, and an autoencoder."""
    folder = tmp_path / "out"
    (folder / "frames").mkdir(parents=True)
    for seed in range(6):
        write_frame(folder / "frames" / f"{seed:03d}", scene(seed))
    save_codec(LatentCodec(build_autoencoder(AutoencoderSettings(), seed=0), 0.5), folder / "codec")
    return folder


@pytest.fixture
def precompute(tmp_path, output, capsys):
    """Runs the command; gives the files of latents by name and what was said."""

    def run(*options, recipe=RECIPE, code=0):
        path = tmp_path / "recipe.toml"
        path.write_text(recipe, encoding="utf-8")
        assert main(["precompute", str(path), "--output", str(output), *options]) == code
        return files(output / "latents"), capsys.readouterr()

    return run


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_command_writes_all_latents_of_a_recipe_and_says_what_a_view_costs(precompute, output):
    written, said = precompute()
    assert list(written) == ["large/frames-0000.tar", "large/frames-0001.tar"] + [
        f"small/frames-{index:04d}.safetensors" for index in range(3)
    ]
    small = summarize(output / "latents" / "small")
    assert small.views == 10 and small.bytes == sum(len(v) for name, v in written.items() if "small" in name)
    assert f"small: 3 of 3 shards, 10 views, {small.bytes:,} bytes, {small.bytes / 10:,.0f} bytes a view" in said.out
    before = {path: path.stat().st_mtime_ns for path in (output / "latents").rglob("*")}
    assert precompute()[0] == written
    assert before == {path: path.stat().st_mtime_ns for path in (output / "latents").rglob("*")}


def test_another_seed_draws_other_views(precompute, output):
    first, _ = precompute("--latents", "small")
    shutil.rmtree(output / "latents")
    other, _ = precompute("--latents", "small", recipe=RECIPE.replace("[latents.small]", "[latents.small]\nseed = 1"))
    assert first.keys() == other.keys() and all(first[name] != other[name] for name in first)


def with_holes(output, more=""):
    """A recipe for rendered frames and a sensor's, both without depth in the upper half, and `more` in their table."""
    for folder in ("rendered", "measured"):
        (output / folder).mkdir(exist_ok=True)
        for seed in range(2):
            write_frame(output / folder / str(seed), scene(seed, sky_rows=16))
    data = 'folders = ["rendered"]\n[[frames.datasets]]\nkind = "pairs"\nroot = "measured"\n'
    view = "{ height_px = 32, width_px = 48, min_scale = 1.0, aspect_jitter = 0.0 }"
    text = RECIPE.replace("held_out = 1\n", f"held_out = 1\n{data}").replace("{ height_px = 16, width_px = 24 }", view)
    return text.replace("[latents.small]", f"[latents.small]\n{more}")


@pytest.mark.parametrize(
    ("setting", "rendered", "measured"), [("", 1, 0), ("sky_is_far = true", 1, 1), ("sky_is_far = false", 0, 0)]
)
def test_holes_of_a_sensor_are_left_out_and_the_sky_of_rendered_frames_is_far(
    precompute, output, setting, rendered, measured
):
    precompute("--latents", "small", recipe=with_holes(output, setting))
    for name, far in (("rendered", rendered), ("pairs", measured)):
        shard = open_shard(output / "latents" / "small" / f"{name}-0000.safetensors")
        assert shard.rows["valid"][0].float().mean(1).tolist() == [far, far, 1, 1]
        assert shard.origin["sky_is_far"] == bool(far)


def test_latents_stay_where_the_setting_says_what_their_kind_does_and_are_refused_where_not(precompute, output):
    rendered = 'datasets = ["rendered"]\n'
    written, _ = precompute("--latents", "small", recipe=with_holes(output, f"{rendered}sky_is_far = true"))
    assert precompute("--latents", "small", recipe=with_holes(output, rendered))[0] == written
    precompute("--latents", "small", recipe=with_holes(output, "sky_is_far = true"))
    _, said = precompute("--latents", "small", recipe=with_holes(output), code=2)
    assert "pairs-0000.safetensors was made with another sky_is_far" in said.err


def test_the_training_stage_writes_the_same_files_as_the_command(precompute, output, tmp_path):
    written, _ = precompute("--latents", "large")
    assert {Path(name).parent.name for name in written} == {"large"}
    (output / "latents").rename(tmp_path / "kept")
    run_recipe(read_recipe(tmp_path / "recipe.toml"), output, "latents.large")
    assert files(output / "latents") == written


def test_two_machines_one_with_two_workers_write_byte_for_byte_what_one_does(precompute, output, tmp_path):
    alone, _ = precompute("--latents", "small")
    (output / "latents").rename(tmp_path / "alone")
    recipe = RECIPE.replace("[latents.small]", "[latents.small]\nworkers = 2")
    half, said = precompute("--latents", "small", "--shard", "1/2", recipe=recipe)
    assert list(half) == ["small/frames-0000.safetensors", "small/frames-0002.safetensors"]
    assert "small: 2 of 3 shards" in said.out
    assert precompute("--latents", "small", "--shard", "2/2")[0] == alone


def test_the_number_of_threads_changes_no_latent(golden_dir, tmp_path):
    write_frame(tmp_path / "large", scene(height=120, width=160))
    frames = [Frame("large", "large", partial(read_frame, tmp_path / "large"))]
    settings = LatentSettings(ViewSettings(96, 128), views_per_frame=20)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made_with = PhotometricSettings(), NormalizationSettings(), golden_dir / "micro-vae-diffusers.safetensors"
            write_latents(frames, settings, *made_with, tmp_path / f"with {threads}")
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert files(tmp_path / "with 1") == files(tmp_path / "with 2")


def test_two_processes_write_byte_for_byte_what_one_does(precompute, output, tmp_path):
    alone, _ = precompute("--latents", "small")
    (output / "latents").rename(tmp_path / "alone")
    recipe = tmp_path / "recipe.toml"
    command = [sys.executable, "-m", "depthfm_core", "precompute", recipe, "--output", output, "--latents", "small"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(command, env=together | {"RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "3 of 3 shards, 10 views" in said[0] and said[1] == ""
    assert files(output / "latents") == alone


def test_the_shares_of_processes_within_machines_are_all_entries_once():
    shares = [Share(i, 2, outer=Share(j, 3)) for j in range(3) for i in range(2)]
    assert sorted(sum((share.part(list(range(20))) for share in shares), [])) == list(range(20))
    assert all(2 <= len(share.part(list(range(20)))) <= 4 for share in shares)
    assert [share.is_first for share in shares] == [True, False] * 3


@pytest.mark.parametrize(
    ("options", "recipe", "complaint"),
    [
        (["--latents", "tiny"], RECIPE, "no latents tiny; it has small, large"),
        (["--shard", "3/2"], RECIPE, "'3/2' is no part"),
        (["--device", "abacus"], RECIPE, "Device 'abacus' cannot be used"),
        (
            [],
            RECIPE.replace('"webdataset"', '"zip"'),
            "Unknown format of latents 'zip'; choose one of safetensors, web",
        ),
        ([], RECIPE.replace('"codec"', '"nowhere"').replace("held_out = 1", "held_out = 1\ncount = 2"), "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(precompute, output, options, recipe, complaint):
    before = files(output)
    _, said = precompute(*options, recipe=recipe, code=2)
    assert complaint in said.err and said.err.count("\n") == 1
    assert files(output) == before


def test_an_autoencoder_that_is_not_trained_yet_is_asked_for(precompute, output):
    trained = "[autoencoder.loop]\nnum_steps = 1\nbatch_size = 1\nlearning_rate = 1e-3\n"
    _, said = precompute(recipe=RECIPE.replace('[autoencoder]\npath = "codec"\n', trained), code=2)
    assert "run stage autoencoder first" in said.err


@pytest.mark.parametrize("name", ["004_rgb.jpg", "004_depth_mm.png"])
def test_a_broken_file_is_named_and_leaves_the_finished_shards_and_no_half_one(precompute, output, name):
    path = output / "frames" / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    written, said = precompute("--latents", "small", code=2)
    assert str(path) in said.err and list(written) == ["small/frames-0000.safetensors"]
    path.write_bytes(whole)
    finished, _ = precompute("--latents", "small")
    assert len(finished) == 3 and finished["small/frames-0000.safetensors"] == written["small/frames-0000.safetensors"]


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


def test_shards_of_an_earlier_version_which_knew_names_alone_are_kept(precompute, monkeypatch):
    name_all = stages_precompute._name_all
    monkeypatch.setattr(
        stages_precompute, "_name_all", lambda frames: name_all([f._replace(source="") for f in frames])
    )
    written, _ = precompute("--latents", "small")
    monkeypatch.undo()
    assert precompute("--latents", "small")[0] == written


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


def test_the_command_looks_at_all_data_sets_before_it_renders(precompute, output):
    before = files(output)
    tables = 'held_out = 1\ncount = 3\n[[frames.datasets]]\nkind = "pairs"\nroot = "nowhere"\n'
    assert "There is no folder" in precompute(recipe=RECIPE.replace("held_out = 1\n", tables), code=2)[1].err
    assert files(output) == before


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


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_the_autoencoder_encodes_in_bfloat16_only_where_the_device_multiplies_it(
    output, monkeypatch, has_bfloat16, dtype
):
    monkeypatch.setattr(latents, "multiplies_bfloat16", lambda device: has_bfloat16)
    codec, seen = load_codec(output / "codec"), []
    codec.autoencoder.encoder.layers[0].register_forward_hook(lambda _module, _inputs, out: seen.append(out.dtype))
    encode(codec, torch.zeros(2, 3, 16, 24))
    assert seen == [dtype]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_autoencoder_computes_where_it_is_and_its_results_go_where_its_inputs_were(output):
    codec = load_codec(output / "codec")
    pictures = torch.rand(3, 3, 16, 24) * 2 - 1
    latent = encode(codec, pictures)
    codec.cuda()
    there = encode(codec, pictures)
    assert there.device.type == "cpu" and encode(codec, pictures.cuda()).device.type == "cuda"
    assert torch.allclose(there, latent, atol=0.05)
