import json

import pytest
import torch
from diffusers.models.upsampling import Upsample2D

from depthfm_core.loading import load_pipeline
from depthfm_core.model.bundled import NANO_PATH
from depthfm_core.model.checkpoints import load_checkpoint
from depthfm_core.model.codec import load_codec
from depthfm_core.model.lean_codec import MergedUpsampling, make_lean


@pytest.fixture
def codec(golden_dir):
    return load_codec(golden_dir / "micro-vae-diffusers.safetensors")


@pytest.fixture
def image():
    return torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


def kinds(codec):
    return {type(module).__name__ for module in codec.modules()}


@torch.no_grad()
def test_a_lean_autoencoder_gives_the_same_latents_and_pictures(codec, image):
    latent = codec.encode(image)
    decoded, depth = codec.decode(latent), codec.decode_log_depth(latent)
    lean = make_lean(codec)
    torch.testing.assert_close(lean.encode(image), latent)
    torch.testing.assert_close(lean.decode(latent), decoded, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lean.decode_log_depth(latent), depth, rtol=1e-4, atol=1e-5)
    assert {"ResidualBlock", "MergedUpsampling"} <= kinds(lean)
    assert not {"ResnetBlock2D", "Upsample2D"} & kinds(lean)


def gradient(codec, image):
    """Of what is decoded, with respect to the latent."""
    latent = codec.encode(image).detach().requires_grad_()
    codec.decode_log_depth(latent).square().sum().backward()
    return latent.grad


def test_a_lean_autoencoder_has_the_same_gradient(codec, image):
    plain = gradient(codec, image)  # before the same codec is made lean
    lean = gradient(make_lean(codec), image)
    assert plain.abs().max() > 0
    torch.testing.assert_close(lean, plain, rtol=1e-3, atol=1e-4)


def test_a_tiny_autoencoder_stays_as_it_is():
    codec = load_checkpoint(NANO_PATH).build_codec()
    before = kinds(codec)
    assert kinds(make_lean(codec)) == before


def test_pipelines_are_lean(golden_dir):
    vae = golden_dir / "micro-vae-diffusers.safetensors"
    pipeline = load_pipeline(golden_dir / "depthfm-micro-heads8.ckpt", vae)
    assert "ResidualBlock" in kinds(pipeline.codec)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 3)])
def test_merged_upsampling_is_doubling_and_a_convolution_up_to_the_borders(dtype, layout, size):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Upsample2D(8, use_conv=True, out_channels=6).to(dtype, memory_format=layout)
        features = torch.randn(2, 8, *size).to(dtype, memory_format=layout)
    merged = MergedUpsampling(layer)
    expected = layer(features)
    assert merged.weight.dtype == dtype and merged.weight.is_contiguous(memory_format=layout)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(merged(features), expected, rtol=0, atol=tolerance)


def test_an_autoencoder_of_another_activation_is_refused(codec, tmp_path):
    codec.autoencoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"act_fn": "relu"}))
    with pytest.raises(ValueError, match="'relu'; 'silu' is used"):
        load_codec(tmp_path)
