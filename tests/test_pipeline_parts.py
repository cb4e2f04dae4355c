"""What a pipeline asks of its network and autoencoder, and how much at a time: with parts that record, and own ones."""

from dataclasses import replace
from typing import get_type_hints

import pytest
import torch
import torch.nn.functional as F

from depthfm_core import DepthFMPipeline, EstimationSettings
from depthfm_core.flow import ensemble
from depthfm_core.flow.latent_ensemble import combine_latents

QUICK = EstimationSettings(num_steps=1, processing_resolution=32)


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
def recording(cli_pipeline):
    return replace(cli_pipeline, network=RecordingNetwork(cli_pipeline.network.hyper), codec=RecordingCodec())


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


@pytest.mark.parametrize("resolution", [1, 15])
def test_a_resolution_below_one_cell_of_the_network_is_refused_with_what_is_taken(recording, resolution):
    told = f"processing_resolution is {resolution} pixels, .*; choose at least 16, 0 for the image's own size, or leave"
    with pytest.raises(ValueError, match=told):
        recording(torch.rand(1, 3, 32, 32), replace(QUICK, processing_resolution=resolution))
    assert recording.codec.seen == []
    for taken in (0, 16):
        recording(torch.rand(1, 3, 32, 32), replace(QUICK, processing_resolution=taken))


def test_a_model_whose_own_resolution_is_below_one_cell_works_at_it(recording):
    own = replace(recording, processing_resolution=8)
    assert own(torch.rand(1, 3, 32, 32), replace(QUICK, processing_resolution=None)).working_log_depth.shape[-1] == 8


@pytest.mark.parametrize("settings", [None, {"num_steps": 1}, EstimationSettings], ids=str)
def test_what_are_no_settings_is_refused_before_anything_is_computed(recording, settings):
    with pytest.raises(ValueError, match="settings came as"):
        recording(torch.rand(1, 3, 32, 32), settings)
    assert recording.codec.seen == []


@pytest.mark.parametrize("average", ["depth", "latents"])
def test_an_ensemble_is_combined_at_the_working_size_without_the_padding(recording, monkeypatch, average):
    shapes = []
    real = ensemble._align_to_mean

    def align(maps, reduction):
        shapes.append(tuple(maps.shape))
        return real(maps, reduction)

    monkeypatch.setattr(ensemble, "_align_to_mean", align)
    settings = replace(QUICK, ensemble_size=3, processing_resolution=36, average=average)
    assert recording(torch.rand(2, 3, 144, 200), settings).depth.shape == (2, 1, 144, 200)
    assert average == "latents" or shapes == [(2, 3, 1, 36, 50)]


def test_averaged_latents_are_decoded_whole_and_cut_afterwards(recording, monkeypatch):
    seen = []

    def combine(x_1, decode, *how):
        seen.append((x_1.shape[-2:], decode(x_1[:, 0]).shape[-2:]))
        return combine_latents(x_1, decode, *how)

    monkeypatch.setattr("depthfm_core.pipeline.combine_latents", combine)
    settings = replace(QUICK, ensemble_size=2, processing_resolution=36, average="latents")
    assert recording(torch.rand(1, 3, 36, 50), settings).uncertainty.shape == (1, 1, 36, 50)
    assert seen == [((6, 8), (48, 64))]


def test_noise_of_numpy_is_taken_in_float32(recording):
    noise, image = torch.rand(2, 4, 4, 4, dtype=torch.float64), torch.rand(1, 3, 32, 32)
    prediction = recording(image, QUICK, noise=noise)
    assert torch.equal(prediction.log_depth, recording(image, QUICK, noise=noise.float()).log_depth)


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
def test_what_has_the_members_of_the_parts_makes_a_pipeline(cli_pipeline, average):
    own = DepthFMPipeline(OwnNetwork(cli_pipeline.network.hyper), OwnCodec(), cli_pipeline.noising_step, 32)
    image = torch.linspace(0, 1, 64).expand(2, 3, 48, 64)
    depth = own(image, replace(QUICK, ensemble_size=2, average=average)).depth
    assert depth.shape == (2, 1, 48, 64) and (depth.diff(dim=-1) >= 0).all()
    for part in ("network", "codec"):
        protocol = get_type_hints(DepthFMPipeline)[part]
        asked = {*get_type_hints(protocol), *(name for name in vars(protocol) if not name.startswith("_"))}
        assert {name for name in dir(getattr(own, part)) if not name.startswith("_")} == asked
