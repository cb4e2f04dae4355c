"""Data sets of a recipe: what their tables may say, and which frames and latents they give."""

import dataclasses
import logging
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from depthfm_core.training import stages
from depthfm_core.training.frames import FrameSettings, split_frames, tell_frames
from depthfm_core.training.held_out import source_frames
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.sources import KINDS, DataSetSettings
from depthfm_core.training.stages import run_recipe

from .rgbd_files import write_list, write_npy, write_picture
from .test_training_recipe import TOY, with_frames, write_toy, write_toy_frames
from .training_trees import HYPERSIM, VKITTI2, names, write_pairs, write_rooms_and_streets


@pytest.fixture
def output(tmp_path):
    write_rooms_and_streets(tmp_path)
    return tmp_path


def test_variations_and_crop_of_virtual_kitti_reach_its_reader(output):
    assert len(source_frames(VKITTI2, output, 0)[0]) == 8
    both = dataclasses.replace(VKITTI2, variations=("clone", "fog"), crop=True, held_out_split="val")
    train, held_out = source_frames(both, output, 2)
    assert len(train) == 16 and {name[:7] for name in names(held_out)} == {"Scene01"}
    assert source_frames(VKITTI2, output, 0)[0][0].read().image.shape == (3, 375, 1242)
    assert train[0].read().image.shape == (3, 352, 1216)
    assert train[0].source != source_frames(VKITTI2, output, 0)[0][0].source  # whose latents are none of these


def test_pairs_are_a_data_set_and_their_list_chooses_of_them(tmp_path):
    write_pairs(tmp_path / "photos", "a", "b/c")
    photos = DataSetSettings("pairs", "photos", "unsplash")
    (first, second), _ = source_frames(photos, tmp_path, 0)
    assert (first.data_set, first.name, second.name) == ("unsplash", "a", "b/c")
    assert first.read().depth_m.eq(2.5).all()
    write_list(tmp_path / "list.txt", "b/c")
    assert names(source_frames(dataclasses.replace(photos, frame_list="list.txt"), tmp_path, 0)[0]) == ["b/c"]


@pytest.mark.parametrize(
    ("more", "count", "held_out", "complaint"),
    [
        ('root = "nowhere"', 4, 1, "no folder .*nowhere"),
        ('root = "photos"\nframe_list = "none.txt"', 4, 1, "no split list at .*none.txt"),
        ('root = "photos"\nframe_list = "list.txt"', 4, 1, "'z' in .*list.txt is no pair"),
        ('root = "photos"', 4, 2, "photos has 2 frames and 2 are held out; add some, or lower held_out"),
        ('root = "photos"', 1, 1, "frames has 1 frames once they are rendered and 1 are held out"),
    ],
)
def test_what_is_wrong_with_a_data_set_is_told_before_anything_is_rendered(tmp_path, more, count, held_out, complaint):
    write_pairs(tmp_path / "photos", "a", "b")
    write_list(tmp_path / "list.txt", "z")
    frames = f'[frames]\ncount = {count}\nheld_out = {held_out}\n[[frames.datasets]]\nkind = "pairs"\n{more}\n'
    recipe = read_recipe(write_toy(tmp_path, with_frames(frames)))
    with pytest.raises(ValueError, match=complaint):
        run_recipe(recipe, tmp_path)
    assert not (tmp_path / "frames").exists()


def test_frames_alone_are_rendered_before_the_other_data_sets_are_there(tmp_path, monkeypatch):
    rendered = []
    monkeypatch.setattr(stages, "make_frames", lambda *_: rendered.append(1))
    text = with_frames('[frames]\ncount = 4\nheld_out = 1\n[[frames.datasets]]\nkind = "pairs"\nroot = "nowhere"\n')
    run_recipe(read_recipe(write_toy(tmp_path, text)), tmp_path, "frames")
    assert rendered


def test_the_log_says_how_many_frames_each_data_set_has_and_how_many_pictures_no_depth(output, caplog):
    write_toy_frames(output)
    for name in ("frames/none_rgb", "frames/other", "photos/z_depth", "photos/c", "photos/b/.hidden"):
        write_picture(output / f"{name}.jpg", 6, 8)
    write_pairs(output / "photos", "a", "b/d")
    settings = FrameSettings(("frames", "more"), (DataSetSettings("pairs", "photos"), HYPERSIM), held_out=1)
    caplog.set_level(logging.INFO)
    tell_frames(settings, output, *split_frames(settings, output))
    assert caplog.messages == [
        "frames: 3 frames to train on, 1 held out, 2 other pictures",
        "more: 3 frames to train on, 1 held out",
        "pairs: 1 frames to train on, 1 held out, 1 other pictures",
        "hypersim: 4 frames to train on, 1 held out",
    ]
    warned = [record.levelno == logging.WARNING for record in caplog.records]  # which `train` says on stderr too
    assert warned == [True, False, True, False]
    caplog.clear()
    tell_frames(settings, output, *split_frames(settings, output), ["hypersim"])
    assert caplog.messages == ["hypersim: 4 frames to train on, 1 held out"]


def test_a_folder_of_other_names_says_which_ones_were_looked_for(tmp_path):
    write_pairs(tmp_path / "photos", "p0", "p1")
    with pytest.raises(ValueError, match='photos has 0 .*NAME_rgb.jpg with NAME_depth_mm.png.*kind = "pairs"'):
        source_frames(DataSetSettings("frames", "photos"), tmp_path, 1)


def test_folders_and_data_sets_are_trained_on_together(output):
    write_toy_frames(output)
    text = '[frames]\nfolders = ["more"]\nheld_out = 1\n'
    tables = ('kind = "hypersim"\nroot = "hypersim"', 'kind = "frames"\nroot = "frames"')
    text += "".join(f"[[frames.datasets]]\n{table}\n" for table in tables)
    train, held_out = split_frames(read_recipe(write_toy(output, with_frames(text))).frames, output)
    assert [frame.data_set for frame in train] == ["more"] * 3 + ["hypersim"] * 4 + ["frames"] * 3
    assert [frame.data_set for frame in held_out] == ["more", "hypersim", "frames"]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ('kind = "hyper"', "'hyper'; choose one of frames, pairs, hypersim, vkitti2"),
        ('kind = "hypersim"\ncrop = true', "hypersim data set has no crop; it takes kind, root, name, share, split"),
        ('kind = "pairs"\nsplit = "val"', "pairs data set has no split; it takes .*frame_list"),
        ('kind = "vkitti2"\ncomplete_only = true', "vkitti2 data set has no complete_only"),
        ('kind = "vkitti2"\nvariation = "fog"', "unknown keys variation; known are kind, root"),
        ('kind = "vkitti2"\nvariations = "fog"', "variations is 'fog'"),
        ('kind = "vkitti2"\nshare = -0.1', "share of vkitti2 is -0.1"),
        ('kind = "vkitti2"\nshare = nan', "share of vkitti2 is nan"),
        ('kind = "pairs"\nname = "a/b"', "'a/b' is the name of a data set, and results are called by it"),
        ('kind = "pairs"\nmax_depth_m = 0', "max_depth_m of pairs is 0.0; it must be positive"),
        ('kind = "frames"\nmax_depth_m = 9', "frames data set has no max_depth_m"),
        ('kind = "vkitti2"\nshare = inf', "share of vkitti2 is inf"),
        ('kind = "vkitti2"\nshare = 0.1', "only vkitti2 have a share.*all of them"),
        ('kind = "vkitti2"\nname = "more"', "must differ in their names.*'more', 'more'"),
    ],
)
def test_a_wrong_table_of_a_data_set_is_refused(tmp_path, table, complaint):
    text = f'[frames]\nfolders = ["frames", "more"]\n[[frames.datasets]]\nroot = "r"\n{table}\n'
    with pytest.raises(ValueError, match=complaint):
        read_recipe(write_toy(tmp_path, with_frames(text)))


def test_frames_of_nowhere_and_latents_of_unknown_data_sets_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no folder to render into"):
        FrameSettings(folders=())
    with pytest.raises(ValueError, match="no folder to render into"):
        FrameSettings(folders=(), datasets=(HYPERSIM,), count=3)
    with pytest.raises(ValueError, match=r"folder '\.\./\.\.', which has no name .* with a name"):
        FrameSettings(folders=("../..",))
    assert FrameSettings(folders=(), datasets=(DataSetSettings("frames", "..", "above"),)).sources[0].label == "above"
    text = TOY.replace("frames_per_shard = 2", 'frames_per_shard = 2\ndatasets = ["most"]')
    with pytest.raises(ValueError, match=r"\[latents.small\] names data sets \['most'\].*frames, more"):
        read_recipe(write_toy(tmp_path, text))


@pytest.mark.parametrize("page", ["training", "labels"])
def test_the_data_sets_in_the_documents_are_ones_that_a_recipe_takes(tmp_path, page):
    text = (Path(__file__).parents[1] / "docs" / f"{page}.md").read_text(encoding="utf-8")
    tables, *whole = (found for found in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[[frames" in found)
    recipe = read_recipe(write_toy(tmp_path, with_frames(tables)))
    assert recipe.frames.shares and "hypersim" in recipe.frames.shares
    for text in whole:
        assert read_recipe(write_toy(tmp_path, text)).flow


def test_the_documents_table_of_kinds_is_the_codes():
    text = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", text.partition("| kind |")[2], re.MULTILINE)
    assert {kind: tuple(re.findall(r"`(\w+)`", options)) for kind, options in rows} == {
        name: kind.options for name, kind in KINDS.items()
    }


def test_every_kind_takes_the_options_that_its_table_names():
    options = {option for kind in KINDS.values() for option in kind.options}
    fields = {field.name for field in dataclasses.fields(DataSetSettings)}
    assert options | {"kind", "root", "name", "share"} == fields


@pytest.mark.parametrize("kind", ["hypersim", "vkitti2", "frames", "pairs"])
def test_frames_can_be_handed_to_other_processes(output, kind):
    write_toy_frames(output)
    write_picture(output / "pairs/a.png", 6, 8)
    write_npy(output / "pairs/a.npy", np.full((6, 8), 2.5))
    settings = VKITTI2 if kind == "vkitti2" else DataSetSettings(kind, kind)
    frame = source_frames(settings, output, 0)[0][0]
    assert torch.equal(pickle.loads(pickle.dumps(frame)).read().depth_m, frame.read().depth_m)


def test_latents_are_made_of_the_data_sets_that_their_table_names(output):
    text = "[frames]\nfolders = []\nheld_out = 1\n"
    text += "".join(f'[[frames.datasets]]\nkind = "{kind}"\nroot = "{kind}"\n{more}\n' for kind, more in SHARED)
    text = with_frames(text).replace(
        "[latents.small]",
        '[latents.streets]\ndatasets = ["vkitti2"]\nview = '
        '{ height_px = 16, width_px = 64 }\n[latents.small]\ndatasets = ["hypersim"]',
    )
    text = text.replace('latents = ["small"]', 'latents = ["streets", "small"]', 1)  # the second stage: rooms alone
    run_recipe(read_recipe(write_toy(output, text)), output)
    shards = {path.relative_to(output).as_posix(): load_file(path) for path in output.glob("latents/*/*.safetensors")}
    shapes = {name: tuple(shard["valid"].shape) for name, shard in sorted(shards.items())}
    assert shapes == {
        "latents/small/hypersim-0000.safetensors": (2, 4, 6),
        "latents/small/hypersim-0001.safetensors": (2, 4, 6),
        "latents/streets/vkitti2-0000.safetensors": (8, 2, 8),
    }
    assert (output / "model.safetensors").exists()


SHARED = (("hypersim", "share = 0.9"), ("vkitti2", 'variations = ["clone"]\nshare = 0.1'))
