import json

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D

from depthfm_core.loading import load_pipeline
from depthfm_core.model import lean, winograd
from depthfm_core.model.catalog import NANO_PATH
from depthfm_core.model.checkpoints import load_checkpoint
from depthfm_core.model.codec import load_codec
from depthfm_core.model.lean import MergedUpsampling, make_lean, make_network_lean
from depthfm_core.model.winograd import convolve


@pytest.fixture
def codec(golden_dir):
    return load_codec(golden_dir / "micro-vae-diffusers.safetensors")


@pytest.fixture
def image():
    return torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def network(golden_dir):
    return load_checkpoint(golden_dir / "depthfm-micro-heads8.ckpt").build_unet()


@pytest.fixture
def fewer_products(monkeypatch):
    """Lets small layers go by `winograd`, too, and counts those that do."""
    monkeypatch.setattr(winograd, "_FEWEST_TILES", 1)
    monkeypatch.setattr(winograd, "_FEWEST_CHANNELS", 1)
    calls = []
    monkeypatch.setattr(lean, "convolve", lambda *args, **kwargs: calls.append(args) or convolve(*args, **kwargs))
    return calls


def kinds(module):
    return {type(module).__name__ for module in module.modules()}


def answers(codec, image):
    latent = codec.encode(image)
    return latent, codec.decode(latent), codec.decode_log_depth(latent)


@torch.no_grad()
@pytest.mark.parametrize("fewer", [False, True])
def test_a_lean_autoencoder_gives_the_same_latents_and_pictures(codec, image, fewer, fewer_products):
    expected = answers(codec, image)
    lean_codec = make_lean(codec, fewer)
    for _ in range(2):  # blocks write over what they are given
        for answer, wanted in zip(answers(lean_codec, image), expected, strict=True):
            torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=2e-5)
    assert bool(fewer_products) == fewer
    assert {"ResidualBlock", "Upsampling" if fewer else "MergedUpsampling"} <= kinds(lean_codec)
    assert not {"ResnetBlock2D", "MergedUpsampling" if fewer else "Upsampling"} & kinds(lean_codec)


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 24), (8, 8), (24, 40)])
def test_a_lean_network_gives_the_same_velocity(network, size, fewer_products):
    generator = torch.Generator().manual_seed(0)
    x_t, image_latent = torch.randn(2, 3, 4, *size, generator=generator)
    t = torch.tensor([0.0, 0.3, 1.0])
    expected = network(x_t, t, image_latent)
    lean_network = make_network_lean(network)
    for _ in range(2):
        torch.testing.assert_close(lean_network(x_t, t, image_latent), expected, rtol=1e-4, atol=1e-5)
    assert len(fewer_products) > 8
    assert "ResnetBlock2D" not in kinds(lean_network)


@torch.no_grad()
def test_a_network_in_half_precision_keeps_its_convolutions_and_its_velocity(golden_dir):
    network = load_checkpoint(golden_dir / "depthfm-micro-heads8.ckpt").build_unet(dtype=torch.bfloat16)
    x_t, image_latent = torch.randn(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = network(x_t, torch.ones(3), image_latent)
    lean_network = make_network_lean(network)
    assert "ResidualBlock" not in kinds(lean_network)
    torch.testing.assert_close(lean_network(x_t, torch.ones(3), image_latent), expected, rtol=0, atol=0.02)


def test_feed_forward_layers_of_the_first_level_see_one_sample_at_a_time(network):
    seen = {}
    make_network_lean(network)
    for module in network.modules():
        if isinstance(module, BasicTransformerBlock):
            module.ff.register_forward_pre_hook(lambda _, args, dim=module.dim: seen.update({dim: len(args[0])}))
    network(torch.zeros(3, 4, 16, 16), torch.zeros(3), torch.zeros(3, 4, 16, 16))
    first = network.hyper.channels[0]
    assert seen[first] == 1
    assert len(seen) > 1 and all(count == 3 for dim, count in seen.items() if dim != first)


def gradient(codec, latent):
    """Of what is decoded, with respect to the latent."""
    latent = latent.clone().requires_grad_()
    codec.decode_log_depth(latent).square().sum().backward()
    return latent.grad


@pytest.mark.parametrize("fewer", [False, True])
def test_a_lean_autoencoder_has_the_same_gradient(codec, image, fewer, fewer_products):
    latent = codec.encode(image)
    plain = gradient(codec, latent)  # before the same codec is made lean
    assert plain.abs().max() > 0
    torch.testing.assert_close(
        gradient(make_lean(codec, fewer), latent), plain, rtol=0, atol=1e-4 * float(plain.norm())
    )


def test_a_tiny_autoencoder_stays_as_it_is():
    codec = load_checkpoint(NANO_PATH).build_codec()
    before = kinds(codec)
    assert kinds(make_lean(codec)) == before


@pytest.mark.parametrize(
    ("how", "codec_kind", "network_kind"),
    [
        ({"dtype": "float32"}, "Upsampling", "ResidualBlock"),
        ({"dtype": "bfloat16"}, "MergedUpsampling", "ResnetBlock2D"),
        ({"dtype": "float32", "compile": True}, "MergedUpsampling", "ResnetBlock2D"),
    ],
)
def test_pipelines_are_lean(golden_dir, how, codec_kind, network_kind):
    vae = golden_dir / "micro-vae-diffusers.safetensors"
    pipeline = load_pipeline(golden_dir / "depthfm-micro-heads8.ckpt", vae, backend="torch", **how)
    assert {"ResidualBlock", codec_kind} <= kinds(pipeline.codec)
    assert network_kind in kinds(pipeline.network)


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


@torch.no_grad()
@pytest.mark.parametrize("overwrites", [True, False])
def test_a_blocks_input_is_written_over_only_where_that_is_allowed(monkeypatch, overwrites):
    monkeypatch.setattr(lean, "pays", lambda *_: True)
    block = lean.ResidualBlock(ResnetBlock2D(in_channels=32, temb_channels=None), True, overwrites)
    features = torch.rand(1, 32, 16, 16).contiguous(memory_format=torch.channels_last)
    before = features.clone()
    block(features)
    assert torch.equal(features, before) != overwrites
