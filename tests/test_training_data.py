"""Normalization, views, photometry, the small autoencoder and precomputed latents."""

import dataclasses
import logging

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from depthfm_core.data.folder import write_frame
from depthfm_core.data.sample import DepthSample
from depthfm_core.depth.files import write_png
from depthfm_core.model.codec import LatentCodec, load_codec
from depthfm_core.training import precompute
from depthfm_core.training.augment import PhotometricSettings, ViewSettings, draw_view
from depthfm_core.training.autoencoder import AutoencoderSettings, build_autoencoder
from depthfm_core.training.export import save_codec
from depthfm_core.training.held_out import source_frames
from depthfm_core.training.latents import LatentSet, LatentSettings, encode
from depthfm_core.training.precompute import write_latents
from depthfm_core.training.sources import DataSetSettings, folder_frames
from depthfm_core.training.target import NormalizationSettings, normalize_target
from depthfm_core.training.views import valid_cells

PERCENTILES = NormalizationSettings()
STILL = PhotometricSettings(0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 95, 0, 0)
SMALL = LatentSettings(ViewSettings(16, 24), views_per_frame=2, frames_per_shard=2)


def scene(seed=0, height=32, width=48, sky_rows=0):
    """A random smooth picture whose depth is a function of its red channel, so that crops can be compared."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, 4, 4))).float()
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    valid = torch.ones(1, height, width, dtype=torch.bool)
    valid[:, :sky_rows] = False
    return DepthSample(image, torch.where(valid, 1 + 9 * image[:1], 0.0), valid)


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for seed in range(5):
        write_frame(folder / f"{seed:03d}", scene(seed))
    return folder_frames(folder, "frames")


@pytest.fixture(scope="module")
def codec_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    save_codec(LatentCodec(build_autoencoder(AutoencoderSettings(), seed=0), 0.5), folder)
    return folder


def test_the_percentiles_become_minus_one_and_one_in_log_depth():
    depth_m = torch.logspace(0, 2, 1001)[None, None]
    out = normalize_target(depth_m, depth_m > 0, PERCENTILES)
    assert out[0, 0, 20] == pytest.approx(-1, abs=1e-3) and out[0, 0, 980] == pytest.approx(1, abs=1e-3)
    assert out[0, 0, 500] == pytest.approx(0, abs=1e-3)  # the geometric mean
    assert out.min() == -1 and out.max() == 1


def test_normalization_does_not_depend_on_the_unit_of_depth():
    sample = scene()
    metres, feet = (normalize_target(sample.depth_m * f, sample.valid, PERCENTILES) for f in (1, 3.28))
    assert torch.allclose(metres, feet, atol=1e-4)


def test_sky_becomes_the_far_plane_and_does_not_move_the_percentiles():
    sample = scene(sky_rows=10)
    out = normalize_target(sample.depth_m, sample.valid, PERCENTILES)
    below = normalize_target(sample.depth_m[:, 10:], sample.valid[:, 10:], PERCENTILES)
    assert (out[:, :10] == 1).all() and torch.equal(out[:, 10:], below)


def test_normalization_is_finite_for_sky_alone_and_for_a_flat_wall():
    flat = torch.full((1, 4, 4), 2.0)
    assert normalize_target(flat, flat > 5, PERCENTILES).eq(1).all()
    assert normalize_target(flat, flat > 0, PERCENTILES).isfinite().all()


def test_percentiles_out_of_order_are_refused():
    with pytest.raises(ValueError, match="ordered"):
        NormalizationSettings(98, 2)


def test_a_view_keeps_picture_and_depth_together():
    for seed in range(8):
        view = draw_view(scene(seed), ViewSettings(16, 24, min_scale=0.5), np.random.default_rng(seed))
        assert view.image.shape == (3, 16, 24) and view.valid.all()
        assert (view.depth_m - (1 + 9 * view.image[:1])).abs().max() < 1.0


def test_a_view_invents_no_depth():
    sample = scene(sky_rows=9)
    view = draw_view(sample, ViewSettings(40, 40), np.random.default_rng(1))
    assert torch.isin(view.depth_m, sample.depth_m).all()
    assert torch.equal(view.valid, view.depth_m > 0) and not view.valid.all()


def test_the_largest_view_without_jitter_is_the_frame_itself():
    sample = scene()
    whole = ViewSettings(32, 48, min_scale=1.0, aspect_jitter=0.0, flip_probability=0.0)
    assert torch.allclose(draw_view(sample, whole, np.random.default_rng(0)).image, sample.image, atol=1e-6)
    mirrored = ViewSettings(32, 48, min_scale=1.0, aspect_jitter=0.0, flip_probability=1.0)
    view = draw_view(sample, mirrored, np.random.default_rng(0))
    assert torch.allclose(view.image, sample.image.flip(-1), atol=1e-6)
    assert torch.equal(view.depth_m, sample.depth_m.flip(-1))


def test_a_cell_counts_when_half_of_its_pixels_are_measured_or_sky_counts():
    sample = scene(height=16, width=16, sky_rows=5)
    assert valid_cells(sample, sky_is_far=False).flatten().tolist() == [False, False, True, True]
    assert valid_cells(scene(height=16, width=16, sky_rows=4), sky_is_far=False).all()
    assert valid_cells(sample, sky_is_far=True).all()
    assert not valid_cells(scene(height=16, width=16, sky_rows=16), sky_is_far=True).any()


def test_latents_come_in_shards_that_are_made_once(frames, codec_folder, tmp_path):
    def write():
        write_latents(frames, SMALL, PhotometricSettings(), PERCENTILES, codec_folder, tmp_path / "latents")
        return {path.name: path.read_bytes() for path in sorted((tmp_path / "latents").iterdir())}

    first = write()
    assert list(first) == [f"frames-{index:04d}.safetensors" for index in range(3)]
    (tmp_path / "latents" / "frames-0001.safetensors").unlink()
    kept = tmp_path / "latents" / "frames-0000.safetensors"
    before = kept.stat().st_mtime_ns
    assert write() == first
    assert kept.stat().st_mtime_ns == before
    shard = load_file(kept)
    assert shard["image_latent"].shape == shard["depth_latent"].shape == (4, 4, 2, 3)
    assert shard["valid"].shape == (4, 2, 3) and len(LatentSet([tmp_path / "latents"])) == 10


def test_latents_are_scaled_and_pair_the_picture_with_its_depth(frames, codec_folder, tmp_path):
    write_latents(frames[:1], SMALL, STILL, PERCENTILES, codec_folder, tmp_path / "one")
    drawn = LatentSet([tmp_path / "one"]).draw(6, np.random.default_rng(0))
    assert drawn.image_latent.dtype == torch.float32 and drawn.valid.shape == (6, 1, 2, 3)
    codec = load_codec(codec_folder)
    decoded = codec.decode(drawn.depth_latent)
    assert codec.scaling_factor == 0.5 and decoded.abs().max() < 1.5
    assert (decoded - decoded.mean(1, keepdim=True)).abs().max() < 0.2  # depth is a grey picture


def without_depth(frame):
    """The frame, read without any depth."""
    sample = frame.read()
    return frame._replace(read=lambda: DepthSample(sample.image, 0 * sample.depth_m, 0 * sample.valid > 0))


@pytest.mark.parametrize("format_", ["safetensors", "webdataset"])
def test_latents_of_which_no_view_has_depth_are_refused(frames, codec_folder, tmp_path, caplog, format_):
    settings = dataclasses.replace(SMALL, format=format_)

    def write(some, name):
        write_latents(some, settings, PhotometricSettings(), PERCENTILES, codec_folder, tmp_path / name)
        return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    assert write(frames, "whole") == []
    assert write([*map(without_depth, frames[:3]), *frames[3:]], "half") == ["6 of 10 views of frames have no depth"]
    assert len(LatentSet([tmp_path / "half"])) == 10
    caplog.clear()
    assert write([without_depth(frame) for frame in frames], "none") == ["10 of 10 views of frames have no depth"]
    with pytest.raises(ValueError, match="No view of the latents .*none.frames has depth to learn from"):
        LatentSet([tmp_path / "none"])


def test_a_number_for_the_sky_is_told_and_left_out_beyond_the_largest_depth(codec_folder, tmp_path, caplog):
    """Such a map then gives the latents of the one that has 0 there."""
    for name, sky in (("marked", 1e9), ("zero", 0.0)):
        (tmp_path / name).mkdir()
        for seed in range(2):
            sample = scene(seed, sky_rows=8)
            write_png(tmp_path / name / f"{seed}.png", sample.image)
            np.save(tmp_path / name / f"{seed}.npy", sample.depth_m.where(sample.valid, sky)[0].numpy())

    def write(root, label, **more):
        caplog.clear()
        settings = DataSetSettings("pairs", root, name="maps", **more)
        made_with = LatentSettings(ViewSettings(32, 48)), STILL, PERCENTILES, codec_folder
        write_latents(source_frames(settings, tmp_path, 0)[0], *made_with, tmp_path / label)
        return load_file(tmp_path / label / "maps-0000.safetensors"), caplog.messages

    marked, told = write("marked", "as it is")
    cut, silent = write("marked", "cut", max_depth_m=100.0)
    zero, _ = write("zero", "reference")
    assert "2 of 2 views of maps have depth over a range of more than 1 to 1000" in told[0] and silent == []
    assert all(torch.equal(cut[name], zero[name]) for name in zero)
    assert not torch.equal(marked["depth_latent"], zero["depth_latent"])


@pytest.mark.parametrize("spoiled", [float("nan"), 1e6])  # which is no number in half precision
def test_latents_that_are_not_finite_are_refused_with_the_name_of_their_frame(
    frames, codec_folder, tmp_path, monkeypatch, spoiled
):
    calls = []

    def encode_and_spoil(codec, pictures):
        calls.append(1)
        latent = encode(codec, pictures)
        if len(calls) == 2:  # the first shard's depth: two views each of two frames
            latent[2, 0, 0, 0] = spoiled
        return latent

    monkeypatch.setattr(precompute, "encode", encode_and_spoil)
    with pytest.raises(ValueError, match="latents of 001 in frames are not finite; mend its picture and depth map"):
        write_latents(frames, SMALL, PhotometricSettings(), PERCENTILES, codec_folder, tmp_path / "latents")
    assert not list((tmp_path / "latents").iterdir())


def test_a_folder_without_latents_is_named(tmp_path):
    with pytest.raises(ValueError, match="run that stage first"):
        LatentSet([tmp_path])
