from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import get_type_hints

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from depthfm_core import DepthFMPipeline, DepthPrediction, EstimationSettings, load_pipeline
from depthfm_core.flow import SOLVERS, ensemble

AUTHORS = EstimationSettings(processing_resolution=0, align_members=False)
QUICK = EstimationSettings(num_steps=1, processing_resolution=32)


@pytest.fixture(scope="module")
def pipeline(golden_dir):
    return load_pipeline(golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors")


@pytest.fixture(scope="module")
def golden(golden_dir):
    """Reference depth and the noise it was computed from; golden/README.md says why the noise is a file of its own."""
    noise = load_file(golden_dir / "depthfm-micro-pipeline-noise.safetensors")
    return load_file(golden_dir / "depthfm-micro-pipeline.safetensors") | noise


@pytest.fixture(scope="module")
def photo(golden):
    return golden["image_uint8"].permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(("num_steps", "ensemble_size"), [(1, 1), (2, 1), (4, 1), (2, 3)])
def test_image_to_depth_equals_the_authors_the_whole_way(pipeline, golden, photo, num_steps, ensemble_size):
    settings = replace(AUTHORS, num_steps=num_steps)
    depth = pipeline(photo, settings, noise=golden[f"noise_ensemble{ensemble_size}"]).depth
    expected = golden[f"depth_steps{num_steps}_ensemble{ensemble_size}"]
    assert (depth - expected).norm() / expected.norm() < 1e-4


def test_a_result_does_not_depend_on_batch_or_chunks(pipeline):
    images = torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    settings = replace(QUICK, num_steps=2, ensemble_size=3)
    together = pipeline(images, settings)
    for chunk in (1, 2, 4):
        chunked = pipeline(images, replace(settings, members_at_once=chunk))
        torch.testing.assert_close(chunked.log_depth, together.log_depth, rtol=1e-4, atol=1e-4)
    alone = pipeline(images[2:], settings)
    torch.testing.assert_close(alone.log_depth, together.log_depth[2:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone.uncertainty, together.uncertainty[2:], rtol=1e-3, atol=1e-4)


def test_threads_may_share_a_pipeline(pipeline):
    images = torch.rand(6, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    alone = [pipeline(image, QUICK).log_depth for image in images]
    with ThreadPoolExecutor(3) as pool:
        shared = list(pool.map(lambda image: pipeline(image, QUICK).log_depth, images))
    torch.testing.assert_close(shared, alone, rtol=1e-4, atol=1e-4)


def test_noise_per_image_is_that_of_the_next_seeds_and_shared_noise_that_of_one(pipeline):
    images = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    settings = replace(QUICK, ensemble_size=2, seed=2**64 - 1)
    own = pipeline(images, replace(settings, noise_per_image=True)).log_depth
    shared = pipeline(images, settings).log_depth
    next_seed = pipeline(images[:1], replace(settings, seed=0)).log_depth
    torch.testing.assert_close(shared[0], shared[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own[:1], shared[:1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own[1:], next_seed, rtol=1e-4, atol=1e-4)
    assert (own[0] - own[1]).abs().max() > 1e-2


class RecordingCodec(torch.nn.Module):
    """Averages pixels down to cells; remembers what it was asked to encode."""

    downscale = 8

    def __init__(self):
        super().__init__()
        self.seen, self.decoded = [], []

    def encode(self, image):
        self.seen.append(image)
        return torch.nn.functional.avg_pool2d(image.mean(1, keepdim=True), 8).expand(-1, 4, -1, -1)

    def decode_log_depth(self, latent):
        self.decoded.append(len(latent))
        return torch.nn.functional.interpolate(5 * latent[:, :1], scale_factor=8.0)


class RecordingNetwork(torch.nn.Module):
    """A constant velocity; remembers the times and image latents that it was asked at."""

    def __init__(self, hyper):
        super().__init__()
        self.hyper = hyper
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.seen = []

    def forward(self, x_t, t, image_latent):
        self.seen.append((t.clone(), image_latent))
        return torch.ones_like(x_t)


@pytest.fixture()
def recording(pipeline):
    return replace(pipeline, network=RecordingNetwork(pipeline.network.hyper), codec=RecordingCodec())


def test_the_codec_sees_pixels_from_minus_one_to_one_once_an_image(recording):
    images = torch.zeros(2, 3, 32, 32)
    images[:, :, :16] = 1
    recording(images, replace(QUICK, ensemble_size=4))
    assert len(recording.codec.seen) == 2  # not once a member
    assert all((x.min(), x.max()) == (-1, 1) for x in recording.codec.seen)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_picture_of_another_precision_is_taken_in_float32(recording, dtype):
    image = torch.rand(1, 3, 36, 52).half()
    assert torch.equal(recording(image.to(dtype), QUICK).log_depth, recording(image.float(), QUICK).log_depth)


def test_the_network_sees_raw_time_and_the_clean_image_latent(recording):
    image = torch.rand(1, 3, 32, 32)
    recording(image, replace(QUICK, num_steps=4))
    clean = RecordingCodec().encode(2 * image - 1)
    assert [t.item() for t, _ in recording.network.seen] == [0, 0.25, 0.5, 0.75]
    assert all(torch.equal(latent, clean) for _, latent in recording.network.seen)


def test_log_depth_is_what_the_codec_decodes_and_is_not_clamped(recording):
    image = torch.ones(1, 3, 32, 32)
    prediction = recording(image, replace(QUICK, noising_step=0, num_steps=3))
    torch.testing.assert_close(prediction.log_depth, torch.full((1, 1, 32, 32), 2 * 5.0))


def test_the_source_is_noised_as_the_model_says_unless_told_otherwise(recording):
    image = torch.rand(1, 3, 32, 32)
    by_model = recording(image, QUICK).log_depth
    assert torch.equal(by_model, recording(image, replace(QUICK, noising_step=400)).log_depth)
    assert not torch.equal(by_model, recording(image, replace(QUICK, noising_step=0)).log_depth)


def test_the_spread_is_scaled_by_what_the_checkpoint_measured(recording):
    image = torch.rand(1, 3, 32, 32)
    plain = recording(image, replace(QUICK, ensemble_size=2)).uncertainty
    scaled = replace(recording, spread_scale=2.0)(image, replace(QUICK, ensemble_size=2)).uncertainty
    assert plain.max() > 0
    torch.testing.assert_close(scaled, 2 * plain)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (65, 63), (128, 40)])
def test_the_map_has_the_callers_size_and_is_finite(pipeline, size):
    prediction = pipeline(torch.rand(1, 3, *size), QUICK)
    assert isinstance(prediction, DepthPrediction)
    assert prediction.depth.shape == prediction.log_depth.shape == (1, 1, *size)
    assert prediction.depth.isfinite().all()


@pytest.mark.parametrize(
    "change",
    [
        {"num_steps": 3},
        {"solver": "midpoint"},
        {"solver": "rk4"},
        {"ensemble_size": 2},
        {"seed": 1},
        {"noising_step": 100},
        {"processing_resolution": 64},
        {"processing_resolution": None},
    ],
    ids=str,
)
def test_every_setting_changes_the_result(pipeline, photo, change):
    plain = pipeline(photo, replace(QUICK, num_steps=1))
    assert not torch.allclose(plain.log_depth, pipeline(photo, replace(QUICK, **change)).log_depth, atol=1e-5)


@pytest.mark.parametrize(("base", "change"), [({}, {"grid": "rho"}), ({"grid": "rho"}, {"rho": 3.0})], ids=str)
def test_the_grid_of_two_steps_changes_the_result(pipeline, photo, base, change):
    settings = replace(QUICK, num_steps=2, **base)
    before, after = (pipeline(photo, some).log_depth for some in (settings, replace(settings, **change)))
    assert not torch.allclose(before, after, atol=1e-5)


@pytest.mark.parametrize("change", [{"reduction": "median"}, {"align_members": False}], ids=str)
def test_every_way_to_combine_members_changes_the_result(pipeline, photo, change):
    settings = replace(QUICK, ensemble_size=3)
    assert not torch.equal(pipeline(photo, settings).log_depth, pipeline(photo, replace(settings, **change)).log_depth)


def test_looser_tolerances_need_fewer_calls(pipeline, photo):
    def calls(**settings):
        reports = []
        pipeline(photo, replace(QUICK, solver="dopri5", **settings), reports.append)
        return reports[-1].num_calls

    assert calls(rtol=1e-1, atol=1e-8) < calls(rtol=1e-5, atol=1e-8)
    assert calls(rtol=1e-8, atol=1e-1) < calls(rtol=1e-8, atol=1e-5)
    with pytest.raises(RuntimeError, match="max_steps"):
        calls(rtol=1e-9, atol=1e-9, max_steps=1)


def test_progress_is_told_step_by_step(pipeline, photo):
    reports = []
    pipeline(photo, replace(QUICK, num_steps=3, solver="heun"), reports.append)
    assert [(r.step, r.num_calls) for r in reports] == [(1, 2), (2, 4), (3, 6)]


def test_the_same_seed_gives_the_same_depth_and_leaves_the_global_generator_alone(pipeline, photo):
    state = torch.random.get_rng_state()
    first = pipeline(photo, QUICK).depth
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(5)
    assert torch.equal(first, pipeline(photo, QUICK).depth)


def test_half_precision_stays_near_float32(golden_dir, pipeline, photo):
    half = load_pipeline(
        golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors", dtype="bfloat16"
    )
    difference = half(photo, AUTHORS).log_depth - pipeline(photo, AUTHORS).log_depth
    assert 0 < difference.norm() / pipeline(photo, AUTHORS).log_depth.norm() < 0.1


def test_rescaled_attention_is_another_function(golden_dir, pipeline, photo):
    paths = golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors"
    rescaled = load_pipeline(*paths, attention="rescaled")
    assert not torch.allclose(rescaled(photo, QUICK).log_depth, pipeline(photo, QUICK).log_depth, atol=1e-4)


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (torch.zeros(3, 8, 8), "shape"),
        (torch.zeros(1, 1, 8, 8), "shape"),
        (torch.zeros(0, 3, 8, 8), "shape"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 8, 8), 255.0), "255"),
        (torch.full((1, 3, 8, 8), float("nan")), "nan"),
        ("photo.jpg", r"a str; .*read_image\(path\)"),
        (np.zeros((8, 8, 3)), "a ndarray; expected a tensor"),
        (Image.new("RGB", (8, 8)), "a Image; expected a tensor"),
    ],
)
def test_an_image_that_is_none_is_refused(pipeline, image, word):
    with pytest.raises(ValueError, match=word):
        pipeline(image, QUICK)


@pytest.mark.parametrize("solver", ["", "Euler", "dpm"])
def test_an_unknown_solver_is_refused_with_the_list(pipeline, photo, solver):
    with pytest.raises(ValueError, match=", ".join(SOLVERS)):
        pipeline(photo, replace(QUICK, solver=solver))


def test_sizes_are_padded_to_one_cell_of_the_deepest_level(pipeline):
    assert isinstance(pipeline, DepthFMPipeline) and pipeline.multiple == 8 * 2


def test_no_more_members_at_once_than_asked(recording):
    recording(torch.rand(1, 3, 32, 32), replace(QUICK, ensemble_size=5, members_at_once=2))
    assert [len(latent) for _, latent in recording.network.seen] == [2, 2, 1]
    with pytest.raises(ValueError, match="members_at_once"):
        recording(torch.rand(1, 3, 32, 32), replace(QUICK, members_at_once=-1))


def test_the_adaptive_solver_takes_one_at_a_time_since_its_steps_depend_on_what_shares_them(recording):
    recording(torch.rand(2, 3, 32, 32), replace(QUICK, solver="dopri5", ensemble_size=3, members_at_once=4))
    assert {len(latent) for _, latent in recording.network.seen} == {1}


@pytest.mark.parametrize(("side", "decoded"), [(512, [1] * 5), (256, [4, 1])])
def test_members_are_decoded_a_pictures_worth_at_a_time_however_many_the_network_sees(recording, side, decoded):
    recording(torch.rand(1, 3, side, side), replace(QUICK, processing_resolution=0, ensemble_size=5, members_at_once=5))
    assert [len(latent) for _, latent in recording.network.seen] == [5]
    assert recording.codec.decoded == decoded


@pytest.mark.parametrize("settings", [None, {"num_steps": 1}, EstimationSettings], ids=str)
def test_what_are_no_settings_is_refused_before_anything_is_computed(recording, settings):
    with pytest.raises(ValueError, match="settings came as"):
        recording(torch.rand(1, 3, 32, 32), settings)
    assert recording.codec.seen == []


def test_a_pipeline_is_shown_without_its_networks(pipeline):
    assert len(repr(pipeline)) < 200 and f"noising_step={pipeline.noising_step}" in repr(pipeline)


@pytest.mark.parametrize("average", ["depth", "latents"])
def test_an_ensemble_is_combined_at_the_working_size_without_the_padding(recording, monkeypatch, average):
    shapes = []
    real = ensemble._align_to_mean
    monkeypatch.setattr(ensemble, "_align_to_mean", lambda maps: shapes.append(tuple(maps.shape)) or real(maps))
    settings = replace(QUICK, ensemble_size=3, processing_resolution=36, average=average)
    assert recording(torch.rand(2, 3, 144, 200), settings).depth.shape == (2, 1, 144, 200)
    assert average == "latents" or shapes == [(2, 3, 1, 36, 50)]


def test_the_network_sees_as_many_members_as_memory_allows(recording):
    most = []
    for side in (4, 128, 512):
        recording.network.seen.clear()
        recording.depth_latents(torch.zeros(1, 4, side, side), torch.zeros(40, 4, side, side), QUICK)
        most.append(len(recording.network.seen[0][1]))
    assert most[0] == 40 > most[1] > most[2] >= 1


@pytest.mark.parametrize(("side", "times"), [(512, 2 + 3), (256, 0)])
def test_freed_memory_is_returned_between_stages_and_decodes_of_large_pictures(recording, monkeypatch, side, times):
    returned = []
    monkeypatch.setattr("depthfm_core.batching.return_freed_memory", lambda: returned.append(len(recording.codec.seen)))
    recording(torch.rand(1, 3, side, side), replace(QUICK, processing_resolution=0, ensemble_size=3))
    assert returned == [1] * times  # after encoding, after solving, and after each member's decode


class OwnNetwork:
    """A velocity network of the reader's own: the members of `parts.VelocityNetwork` and no more."""

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, hyper):
        self.hyper = hyper

    def __call__(self, x_t, t, image_latent):
        return image_latent - x_t


class OwnCodec:
    """An autoencoder of the reader's own: the members of `parts.Codec` and no more."""

    downscale = 8

    def encode(self, image):
        return F.avg_pool2d(image, 8).mean(1, keepdim=True).expand(-1, 4, -1, -1)

    def decode_log_depth(self, latent):
        return F.interpolate(latent[:, :1], scale_factor=8, mode="bilinear")


@pytest.mark.parametrize("average", ["depth", "latents"])
def test_what_has_the_members_of_the_parts_makes_a_pipeline(pipeline, average):
    own = DepthFMPipeline(OwnNetwork(pipeline.network.hyper), OwnCodec(), pipeline.noising_step, 32)
    image = torch.linspace(0, 1, 64).expand(2, 3, 48, 64)
    depth = own(image, replace(QUICK, ensemble_size=2, average=average)).depth
    assert depth.shape == (2, 1, 48, 64) and (depth.diff(dim=-1) >= 0).all()
    for part in ("network", "codec"):
        protocol = get_type_hints(DepthFMPipeline)[part]
        asked = {*get_type_hints(protocol), *(name for name in vars(protocol) if not name.startswith("_"))}
        assert {name for name in dir(getattr(own, part)) if not name.startswith("_")} == asked
