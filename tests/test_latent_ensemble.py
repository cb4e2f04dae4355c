from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from depthfm_core import EstimationSettings, load_pipeline
from depthfm_core.depth.files import read_image
from depthfm_core.flow import combine_latents, combine_members
from depthfm_core.flow.latent_ensemble import linear_log_depth

QUICK = EstimationSettings(num_steps=2, processing_resolution=32, ensemble_size=3, average="latents")


@pytest.fixture(scope="module")
def pipeline(golden_dir):
    return load_pipeline(golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors")


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear_decoder(latent):
    """Log depth as a weighted sum of the channels, each cell eight pixels wide."""
    log_depth = torch.einsum("ncij,c->nij", latent, torch.tensor([0.5, -1.0, 0.25, 2.0]))[:, None] + 0.3
    return F.interpolate(log_depth, scale_factor=8.0)


def of_each(decode, x_1):
    return torch.stack([decode(members) for members in x_1])


@pytest.mark.parametrize("reduction", ["mean", "median"])
def test_one_decode_an_image_is_asked_for_its_members_average(reduction):
    x_1, asked = random(2, 5, 4, 6, 7), []
    centre, _ = combine_latents(x_1, lambda latent: asked.append(latent) or linear_decoder(latent), reduction)
    expected = getattr(x_1, reduction)(1)
    expected = expected if reduction == "mean" else expected.values
    torch.testing.assert_close(torch.cat(asked), expected)
    torch.testing.assert_close(centre, linear_decoder(expected))


def test_of_a_linear_decoder_the_centre_is_the_members_mean():
    x_1 = random(2, 4, 4, 9, 11)
    centre, _ = combine_latents(x_1, linear_decoder)
    torch.testing.assert_close(centre, of_each(linear_decoder, x_1).mean(1))


def test_a_linear_decoder_is_found_from_the_decoded_average():
    x_1 = random(4, 4, 24, 32) + 0.5
    average = x_1.mean(0)
    found = linear_log_depth(x_1, average, linear_decoder(average[None])[0])
    exact = linear_decoder(x_1)[:, :, ::8, ::8]
    assert (found - exact).norm() / exact.norm() < 0.03


@pytest.mark.parametrize("align", [True, False])
def test_the_spread_is_that_of_the_members_up_to_a_cell(align):
    x_1 = F.interpolate(random(5 * 4, 1, 4, 5), (24, 32), mode="bicubic").reshape(1, 5, 4, 24, 32)
    _, spread = combine_latents(x_1, linear_decoder, align=align)
    _, exact = combine_members(of_each(linear_decoder, x_1), align=align)
    assert spread.shape == exact.shape
    assert (spread - exact).norm() / exact.norm() < 0.1
    assert spread.diff(dim=-1).abs().max() < 0.2 * exact.diff(dim=-1).abs().max()  # an eighth of a cell's step a pixel


def test_one_member_is_its_own_decode_and_has_no_spread():
    x_1 = random(2, 1, 4, 5, 6)
    centre, spread = combine_latents(x_1, linear_decoder)
    torch.testing.assert_close(centre, linear_decoder(x_1[:, 0]))
    assert not spread.any()


def test_members_that_agree_and_a_flat_image_have_no_spread():
    same = random(1, 1, 4, 6, 7).expand(1, 3, -1, -1, -1)
    assert combine_latents(same, linear_decoder)[1].max() < 1e-5
    assert combine_latents(torch.zeros(1, 3, 4, 2, 1), linear_decoder)[1].max() < 1e-5


def test_the_average_has_the_two_values_that_it_can_have():
    with pytest.raises(ValueError, match="'pixels'; choose one of depth, latents"):
        EstimationSettings(average="pixels")
    with pytest.raises(ValueError, match="'mode'; choose one of mean, median"):
        combine_latents(random(1, 2, 4, 2, 2), linear_decoder, "mode")


def test_for_one_member_averaging_latents_changes_nothing(pipeline):
    image = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    settings = replace(QUICK, ensemble_size=1)
    approximate, exact = (pipeline(image, replace(settings, average=name)) for name in ("latents", "depth"))
    assert torch.equal(approximate.log_depth, exact.log_depth)
    assert torch.equal(approximate.uncertainty, exact.uncertainty)


def test_averaged_latents_do_not_depend_on_batch_or_chunks_and_report_every_step(pipeline):
    images, steps = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0)), []
    together = pipeline(images, QUICK)
    chunked = pipeline(images, replace(QUICK, members_at_once=2), on_step=steps.append)
    alone = pipeline(images[1:], QUICK)
    for name in ("log_depth", "uncertainty"):
        torch.testing.assert_close(getattr(chunked, name), getattr(together, name), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(getattr(alone, name), getattr(together, name)[1:], rtol=1e-3, atol=1e-4)
    assert [progress.step for progress in steps] == [1, 2] * 3


def test_of_the_bundled_model_averaged_latents_are_near_the_averaged_depth(golden_dir):
    nano, image = load_pipeline(), read_image(golden_dir.parents[1] / "depthfm_core" / "examples" / "room.jpg")
    settings = replace(QUICK, processing_resolution=128)
    approximate, exact = (nano(image, replace(settings, average=name)) for name in ("latents", "depth"))
    one = nano(image, replace(settings, ensemble_size=1))
    error, members_error = (((p.depth - exact.depth).norm() / exact.depth.norm()).item() for p in (approximate, one))
    assert 0 < error < 0.05 and error < members_error / 3
    spreads = torch.stack([approximate.uncertainty.flatten(), exact.uncertainty.flatten()])
    assert torch.corrcoef(spreads)[0, 1] > 0.8
    assert spreads[0].mean() == pytest.approx(spreads[1].mean().item(), rel=0.25)


def test_a_shift_of_a_whole_latent_shifts_the_map_to_its_borders():
    average = random(4, 9, 11)
    shifted = average + torch.tensor([0.5, -0.2, 0.0, 0.3])[:, None, None]
    still, moved = linear_log_depth(torch.stack([average, shifted]), average, linear_decoder(average[None])[0])
    assert (moved - still).abs().min() > 0.1
    torch.testing.assert_close(moved - still, (moved - still).mean().expand_as(still), rtol=0, atol=1e-5)
