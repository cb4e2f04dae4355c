"""Latents ahead: the command `precompute`, the files it writes, and batches out of them."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from depthfm_core.__main__ import main
from depthfm_core.cli.recipes import RECIPES, find_recipe
from depthfm_core.data.folder import read_frame, write_frame
from depthfm_core.model.codec import load_codec
from depthfm_core.share import Share
from depthfm_core.training import latents
from depthfm_core.training.augment import PhotometricSettings, ViewSettings
from depthfm_core.training.latents import LatentSettings, encode
from depthfm_core.training.precompute import write_latents
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.shards import open_shard
from depthfm_core.training.sources import Frame
from depthfm_core.training.stages import run_recipe
from depthfm_core.training.target import NormalizationSettings

from .ports import free_port
from .precomputing import RECIPE, files, with_holes
from .test_training_data import scene


def test_the_command_writes_all_latents_of_a_recipe_and_says_what_a_view_costs(precompute, output):
    written, said = precompute()
    assert list(written) == ["large/frames-0000.tar", "large/frames-0001.tar"] + [
        f"small/frames-{index:04d}.safetensors" for index in range(3)
    ]
    size = sum(len(content) for name, content in written.items() if "small" in name)
    assert f"small: 3 of 3 shards, 10 views, {size:,} bytes, {size / 10:,.0f} bytes a view" in said.out
    before = {path: path.stat().st_mtime_ns for path in (output / "latents").rglob("*")}
    assert precompute()[0] == written
    assert before == {path: path.stat().st_mtime_ns for path in (output / "latents").rglob("*")}


def test_another_seed_draws_other_views(precompute, output):
    written = []
    for seed in (0, 1):
        recipe = RECIPE.replace("[latents.small]", f"[latents.small]\nseed = {seed}")
        written.append(precompute("--latents", "small", recipe=recipe)[0])
        shutil.rmtree(output / "latents")
    first, other = ({name: load(content) for name, content in files.items()} for files in written)
    assert first.keys() == other.keys()
    for name, views in first.items():
        assert not any(torch.equal(tensor, other[name][key]) for key, tensor in views.items() if key != "valid")


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
    together = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    together["MASTER_PORT"] = str(free_port())
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
        (["--device", "abacus"], RECIPE, "There is no device 'abacus'; choose auto, cpu"),
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
    assert f"run `python -m depthfm_core train RECIPE --output {output} --stage autoencoder` first" in said.err


@pytest.mark.parametrize("name", ["nano", "nano.toml"])
def test_a_recipe_that_renders_while_it_trains_has_no_latents_to_make_before(name, output, capsys):
    before = files(output)
    assert main(["precompute", name, "--output", str(output)]) == 2
    assert "there are none to make before. Run `train`" in capsys.readouterr().err
    assert files(output) == before


def test_a_recipe_that_comes_along_is_found_by_its_name_wherever_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano").mkdir()  # the output of an earlier run
    for name in ("nano", "nano.toml"):
        assert find_recipe(Path(name)) == RECIPES / "nano.toml"
    (tmp_path / "nano.toml").touch()
    assert find_recipe(Path("nano.toml")) == Path("nano.toml") and find_recipe(Path("nano")) == RECIPES / "nano.toml"
    with pytest.raises(ValueError, match="no recipe mini.toml; shipped are depthfm_i, .*nano, nano_cpu, in .*training"):
        find_recipe(Path("mini.toml"))


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


def test_the_command_looks_at_all_data_sets_before_it_renders(precompute, output):
    before = files(output)
    tables = 'held_out = 1\ncount = 3\n[[frames.datasets]]\nkind = "pairs"\nroot = "nowhere"\n'
    assert "There is no folder" in precompute(recipe=RECIPE.replace("held_out = 1\n", tables), code=2)[1].err
    assert files(output) == before


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
