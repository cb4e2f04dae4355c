"""Noise that a caller brings: its shape decides the members, and what does not fit is refused."""

import pytest
import torch

from depthfm_core import EstimationSettings, load_pipeline

SETTINGS = EstimationSettings(num_steps=1, processing_resolution=0, align_members=False)
SHAPE = (4, 4, 8)  # of the latent of 32 x 64 pixels


@pytest.fixture(scope="module")
def pipeline(golden_dir):
    return load_pipeline(golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def images():
    return torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(1))


def test_the_noise_decides_how_many_members_there_are(pipeline, images):
    noise = normal(3, *SHAPE)
    one, three = (pipeline(images, SETTINGS, noise=part).log_depth for part in (noise[:1], noise))
    assert not torch.equal(one, three)
    # Three alike in the place of one: a batch of another size rounds differently, by up to the tolerance.
    members = [pipeline(images, SETTINGS, noise=part.repeat(3, 1, 1, 1)).log_depth for part in noise.split(1)]
    torch.testing.assert_close(torch.stack(members).mean(0), three, rtol=0, atol=1e-5)


def test_noise_of_each_images_own_is_that_images(pipeline, images):
    noise = normal(2, 1, *SHAPE)
    together = pipeline(images, SETTINGS, noise=noise).log_depth
    alone = [pipeline(image, SETTINGS, noise=own).log_depth for image, own in zip(images.split(1), noise, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "shape",
    [SHAPE, (1, 4, 1, 1), (2, 1, 4, 8), (1, 4, 8, 4), (0, *SHAPE), (3, 1, *SHAPE), (2, 0, *SHAPE), (1, 2, 1, *SHAPE)],
    ids=str,
)
def test_noise_of_another_shape_is_refused(pipeline, images, shape):
    with pytest.raises(ValueError, match=r"The noise has shape .*expected \[E, 4, 4, 8\]"):
        pipeline(images, SETTINGS, noise=torch.zeros(shape))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_noise_that_is_not_finite_is_refused(pipeline, images, value):
    noise = normal(1, *SHAPE)
    noise[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match="The noise holds NaN or infinity"):
        pipeline(images, SETTINGS, noise=noise)


@pytest.mark.parametrize("kind", [torch.complex64, torch.int64, None], ids=str)
def test_noise_of_another_type_is_refused(pipeline, images, kind):
    noise = normal(1, *SHAPE)
    noise = noise.tolist() if kind is None else noise.to(kind)
    with pytest.raises(ValueError, match="expected a tensor of floating point"):
        pipeline(images, SETTINGS, noise=noise)
