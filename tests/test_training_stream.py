"""Frames rendered during a training: the stream, what is drawn from it, and a whole recipe with it."""

import numpy as np
import pytest
import torch

import depthfm_core.training.frames as frames_module
import depthfm_core.training.stages as stages
from depthfm_core.data.synthetic import render_scene, write_frames
from depthfm_core.loading import load_pipeline
from depthfm_core.share import ALL, Share
from depthfm_core.training.augment import ViewSettings
from depthfm_core.training.frames import split_frames
from depthfm_core.training.latents import encode
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.stages import run_recipe, stage_names
from depthfm_core.training.stream import FrameStream, StreamSettings
from depthfm_core.training.streamed import StreamedLatents, StreamedViews
from depthfm_core.training.target import NormalizationSettings

from .test_training_batched_views import NOTHING, still_frames

CPU = torch.device("cpu")
RECIPE = """
[frames]
count = 20
height_px = 40
width_px = 56
held_out = 3
[frames.stream]
first_frames = 4
kept_views = 32
[autoencoder.loop]
num_steps = 2
batch_size = 2
learning_rate = 1e-3
[autoencoder.model]
crop_px = 32
[latents.small]
view = { height_px = 32, width_px = 48 }
[network]
null_text_tokens = 3
[network.unet]
model_channels = 32
channel_mult = [1, 2]
num_res_blocks = 1
attention_resolutions = [2]
num_heads = 2
context_dim = 8
[flow.only]
latents = ["small"]
[flow.only.loop]
num_steps = 2
batch_size = 4
learning_rate = 1e-3
"""


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def codec():
    return load_pipeline("nano").codec


@pytest.fixture
def frames():
    return still_frames()


def write_recipe(tmp_path, text=RECIPE):
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


class StillStream:
    """Frames that are all there."""

    def __init__(self, images, depths_m):
        self.images, self.depths_m = images, depths_m

    def __len__(self):
        return len(self.images)

    def check(self):
        """Nothing can fail."""


def still_views(frames, photometry=NOTHING):
    return StreamedViews(StillStream(*frames), photometry, NormalizationSettings())


def test_a_stream_has_the_frames_of_its_seeds_in_their_order():
    with FrameStream(range(7, 10), (24, 32), 2, CPU) as stream:
        assert len(stream) == 0
        stream.wait_for(100)
        assert len(stream) == 3
        for index, seed in enumerate((7, 8, 9)):
            frame = render_scene(seed, (24, 32))
            torch.testing.assert_close(stream.images[index] / 255, frame.image)
            torch.testing.assert_close(stream.depths_m[index].float(), frame.depth_m, rtol=1e-3, atol=0)


def test_a_stream_that_nothing_asks_has_no_memory_for_frames():
    with FrameStream(range(10**12), (240, 320), 1, CPU) as stream:
        assert len(stream) == 0


def test_more_new_views_than_are_kept_or_than_a_batch_has_are_refused(tmp_path):
    with pytest.raises(ValueError, match="fresh_share is 1.5"):
        StreamSettings(fresh_share=1.5)
    text = RECIPE.replace("kept_views = 32", "kept_views = 3\nfirst_views = 3\nfresh_share = 1.0")
    with pytest.raises(ValueError, match="flow.only. encodes 4 views and .* kept_views 3; raise kept_views"):
        read_recipe(write_recipe(tmp_path, text))


def test_a_stream_that_is_left_renders_no_further():
    with FrameStream(range(10_000), (24, 32), 1, CPU) as stream:
        stream.wait_for(1)
    count = len(stream)
    assert count < 1_000
    assert not stream._thread.is_alive()


def test_a_frame_that_cannot_be_rendered_ends_the_training(rng):
    with FrameStream(range(2), (8, 8), 1, CPU) as stream:
        with pytest.raises(RuntimeError, match="16x16"):
            stream.wait_for(1)
        with pytest.raises(RuntimeError, match="16x16"):
            StreamedViews(stream, NOTHING, NormalizationSettings()).draw(1, ViewSettings(8, 8), rng)


def test_streamed_latents_are_those_of_the_views(frames, codec, rng):
    view = ViewSettings(24, 32, min_scale=1, aspect_jitter=0, flip_probability=0)
    views = still_views((frames[0][:1], frames[1][:1]))
    latents = StreamedLatents(views, view, StreamSettings(first_views=2, kept_views=8), codec)
    batch = latents.draw(3, rng)  # of the two that are made
    expected = encode(codec, frames[0][:1] / 255 * 2 - 1)
    assert latents.size == (3, 4) and latents.tokens == 12 and batch.valid.all()
    torch.testing.assert_close(batch.image_latent, expected.expand(3, -1, -1, -1), rtol=1e-2, atol=1e-2)


def test_a_batch_has_so_many_new_views_and_the_oldest_go(frames, codec, rng):
    view = ViewSettings(24, 32, min_scale=0.5)
    settings = StreamSettings(first_views=20, kept_views=16, fresh_share=0.5)
    latents = StreamedLatents(still_views(frames), view, settings, codec)
    latents.draw(4, rng)
    assert latents._made == 16
    before = latents._image.clone()
    latents.draw(4, rng)
    changed = (latents._image != before).flatten(1).any(1)
    assert latents._made == 18 and changed.tolist() == [True, True] + [False] * 14


def test_so_many_views_are_there_before_the_first_step(frames, codec, rng):
    latents = StreamedLatents(still_views(frames), ViewSettings(24, 32), StreamSettings(first_views=5), codec)
    latents.draw(4, rng)
    assert latents._made == 5


@pytest.mark.parametrize("first_seed", [0, 9])
def test_a_stream_renders_other_frames_than_the_held_out_ones(tmp_path, monkeypatch, first_seed):
    rendered = []
    monkeypatch.setattr(frames_module, "FrameStream", lambda seeds, *_args: rendered.append(seeds))
    text = RECIPE.replace("count = 20", f"count = 20\nfirst_seed = {first_seed}")
    recipe = read_recipe(write_recipe(tmp_path, text))
    frames_module.open_stream(recipe.frames, ALL)
    folder = tmp_path / "out" / "frames"
    list(write_frames(folder, range(first_seed, first_seed + 5), (16, 16)))  # two more, as of an earlier run
    train, held_out = split_frames(recipe.frames, tmp_path / "out")
    held_out = [int(frame.name) for frame in held_out]
    assert not train and held_out == list(range(first_seed, first_seed + 3))
    assert rendered == [range(first_seed + 3, first_seed + 20)] and not set(held_out) & set(rendered[0])


@pytest.mark.parametrize("name", ["first_frames", "first_views", "kept_views", "fresh_share"])
def test_stream_settings_must_be_positive(name):
    with pytest.raises(ValueError, match=name):
        StreamSettings(**{name: 0})


def test_a_recipe_with_a_stream_makes_a_model_and_keeps_only_the_held_out_frames(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(stages, "StreamedLatents", lambda *args: kept.append(args[2]) or StreamedLatents(*args))
    recipe = read_recipe(write_recipe(tmp_path))
    assert stage_names(recipe) == ["frames", "autoencoder", "flow.only", "export"]
    run_recipe(recipe, tmp_path / "out")
    assert kept == [StreamSettings(first_frames=4, kept_views=32)]
    monkeypatch.setattr(FrameStream, "_start", lambda _stream: pytest.fail("what is done needs no frames"))
    run_recipe(recipe, tmp_path / "out")
    monkeypatch.undo()
    assert len(list((tmp_path / "out" / "frames").glob("*.jpg"))) == 3
    prediction = load_pipeline(tmp_path / "out" / "model.safetensors")(torch.rand(1, 3, 32, 48))
    assert prediction.depth.shape == (1, 1, 32, 48) and prediction.depth.isfinite().all()
    for old, new, told in (
        ("height_px = 32", "height_px = 40", r"latents.small.view.height_px 32 \(now 40\)"),
        ("count = 20", "count = 20\nfirst_seed = 9", r"frames.first_seed 0 \(now 9\)"),
        ("height_px = 40", "height_px = 48", r"frames.height_px 40 \(now 48\)"),
        ("count = 20", "count = 24", r"is done and was trained with count 20 \(now 24\)"),
        ("[network]", "[photometry]\nnoise = 0.5\n[network]", "photometry.noise"),
    ):
        with pytest.raises(ValueError, match=told):
            run_recipe(read_recipe(write_recipe(tmp_path, RECIPE.replace(old, new))), tmp_path / "out", "flow.only")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("held_out = 3", "held_out = 20"),
        ("held_out = 3", 'held_out = 3\nfolders = ["frames", "more"]'),
        ("held_out = 3", 'held_out = 3\ndatasets = [{ kind = "frames", root = "x", name = "x" }]'),
    ],
)
def test_a_stream_goes_with_rendered_frames_only(tmp_path, old, new):
    with pytest.raises(ValueError, match="rendered frames only"):
        read_recipe(write_recipe(tmp_path, RECIPE.replace(old, new)))


@pytest.mark.parametrize("setting", ["sky_is_far = false", "seed = 1", "views_per_frame = 2", 'datasets = ["frames"]'])
def test_what_a_stream_does_not_do_is_refused(tmp_path, setting):
    text = RECIPE.replace("[latents.small]", f"[latents.small]\n{setting}")
    with pytest.raises(ValueError, match=f"has {setting.split()[0]}, which is for latents on the disk"):
        read_recipe(write_recipe(tmp_path, text))


def test_a_stream_trains_in_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "this_share", lambda: Share(0, 2))
    with pytest.raises(ValueError, match="one process"):
        run_recipe(read_recipe(write_recipe(tmp_path)), tmp_path / "out")
