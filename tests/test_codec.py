import json
import shutil

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file

from depthfm_core.model.catalog import NANO_PATH
from depthfm_core.model.checkpoints import load_checkpoint
from depthfm_core.model.codec import LatentCodec, load_codec
from depthfm_core.model.reading import CheckpointError, weight_files

LDM_NAMES = [  # diffusers -> LDM, written down here a second time on purpose
    ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"),
    ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
    ("mid_block.attentions.0.to_q", "mid.attn_1.q"),
    ("mid_block.attentions.0.to_k", "mid.attn_1.k"),
    ("mid_block.attentions.0.to_v", "mid.attn_1.v"),
    ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
    ("conv_shortcut", "nin_shortcut"),
    ("conv_norm_out", "norm_out"),
    ("downsamplers.0", "downsample"),
    ("upsamplers.0", "upsample"),
    ("resnets", "block"),
]


def to_ldm(name):
    for ours, theirs in LDM_NAMES:
        name = name.replace(ours, theirs)
    for level in range(4):
        name = name.replace(f"down_blocks.{level}", f"down.{level}").replace(f"up_blocks.{level}", f"up.{3 - level}")
    return name


@pytest.fixture(scope="module")
def golden(golden_dir):
    return load_file(golden_dir / "depthfm-micro-pipeline.safetensors")


@pytest.fixture(scope="module")
def image(golden):
    return golden["image_uint8"].permute(2, 0, 1)[None].float() / 127.5 - 1


def ldm_file(golden_dir, tmp_path, prefix=""):
    tensors = {}
    for name, tensor in load_file(golden_dir / "micro-vae-diffusers.safetensors").items():
        if ".attentions." in name and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]  # LDM's attention is made of 1x1 convolutions
        tensors[prefix + to_ldm(name)] = tensor
    save_file(tensors, tmp_path / "vae.safetensors")
    return tmp_path / "vae.safetensors"


def diffusers_folder(golden_dir, folder):
    folder.mkdir(parents=True)
    shutil.copy(golden_dir / "micro-vae-diffusers.json", folder / "config.json")
    shutil.copy(golden_dir / "micro-vae-diffusers.safetensors", folder / "diffusion_pytorch_model.safetensors")
    return folder


def beside_a_network(folder):
    """The folder above, with a network's configuration and weights."""
    (folder.parent / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}', encoding="utf-8")
    (folder.parent / "diffusion_pytorch_model.safetensors").write_bytes(b"a network")
    return folder.parent


def old_names_file(golden_dir, tmp_path):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(golden_dir / "micro-vae-diffusers.safetensors")
    for new_name, old_name in old.items():
        tensors = {name.replace(f".{new_name}.", f".{old_name}."): t for name, t in tensors.items()}
    save_file(tensors, tmp_path / "old.safetensors")
    return tmp_path / "old.safetensors"


def with_training_tensors(path):
    extra = {name: torch.zeros(2) for name in ("loss.logvar", "model_ema.decay", "model_ema.encoderconv_inweight")}
    save_file(load_file(path) | extra, path)
    return path


LAYOUTS = {
    "diffusers file": lambda golden_dir, _: golden_dir / "micro-vae-diffusers.safetensors",
    "diffusers folder": lambda golden_dir, tmp: diffusers_folder(golden_dir, tmp / "vae-folder"),
    "pipeline folder": lambda golden_dir, tmp: diffusers_folder(golden_dir, tmp / "pipeline" / "vae").parent,
    "network with vae": lambda golden_dir, tmp: beside_a_network(diffusers_folder(golden_dir, tmp / "both" / "vae")),
    "old diffusers names": old_names_file,
    "LDM file": ldm_file,
    "LDM file with training's tensors": lambda golden_dir, tmp: with_training_tensors(ldm_file(golden_dir, tmp)),
    "whole LDM checkpoint": lambda golden_dir, tmp: ldm_file(golden_dir, tmp, "first_stage_model."),
}


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_encodes_as_the_authors_do(layout, golden_dir, tmp_path, golden, image):
    codec = load_codec(LAYOUTS[layout](golden_dir, tmp_path))
    latent = codec.encode(image)
    assert (latent - golden["image_latent"]).norm() / golden["image_latent"].norm() < 1e-4
    assert torch.equal(latent, codec.encode(image))  # the posterior's mode, not a sample
    assert codec.decode(latent).shape == image.shape


@torch.no_grad()
def test_layouts_decode_alike(golden_dir, tmp_path, golden):
    latent = golden["image_latent"]
    decoded = [
        load_codec(LAYOUTS[name](golden_dir, tmp_path)).decode(latent) for name in ("diffusers file", "LDM file")
    ]
    torch.testing.assert_close(*decoded)


@torch.no_grad()
def test_decoding_is_not_clamped(golden_dir, golden):
    decoded = load_codec(golden_dir / "micro-vae-diffusers.safetensors").decode(10 * golden["image_latent"])
    assert decoded.min() < -1 and decoded.max() > 1


@torch.no_grad()
def test_a_tiny_autoencoder_is_recognized_and_idle_blocks_change_nothing(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = AutoencoderTiny().eval()
    for block in (whole.encoder.layers[1], whole.decoder.layers[-2]):
        for parameter in block.parameters():
            parameter.zero_()
    next(whole.encoder.layers[3].parameters()).zero_()  # a part of a block, which is not idle
    save_file(whole.state_dict(), tmp_path / "tiny.safetensors")
    whole.to(memory_format=torch.channels_last)  # as the codec, which rounds alike then
    codec = load_codec(tmp_path / "tiny.safetensors")
    image = torch.rand(1, 3, 32, 48) * 2 - 1
    latent = codec.encode(image)
    assert torch.equal(latent, whole.encode(image).latents) and torch.equal(
        codec.decode(latent), whole.decode(latent).sample
    )
    assert len(list(codec.parameters())) == len(list(whole.parameters())) - 12


@torch.no_grad()
def test_the_scaling_factor_multiplies_latents_and_is_undone_by_decoding(golden_dir, image):
    unscaled = load_codec(golden_dir / "micro-vae-diffusers.safetensors").autoencoder
    one, two = LatentCodec(unscaled, 1.0), LatentCodec(unscaled, 2.0)
    torch.testing.assert_close(two.encode(image), 2 * one.encode(image))
    torch.testing.assert_close(two.decode(two.encode(image)), one.decode(one.encode(image)))


CODECS = {
    "KL": lambda golden_dir, **how: load_codec(golden_dir / "micro-vae-diffusers.safetensors", **how),
    "tiny": lambda _, **how: load_checkpoint(NANO_PATH).build_codec(**how),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", CODECS)
def test_log_depth_is_the_mean_over_the_channels_and_costs_no_weights(golden_dir, kind):
    codec = CODECS[kind](golden_dir)
    names = list(codec.state_dict())
    latent = torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(codec.decode_log_depth(latent), codec.decode(latent).mean(1, keepdim=True))
    assert list(codec.state_dict()) == names


@torch.no_grad()
@pytest.mark.parametrize("kind", CODECS)
def test_decoding_is_differentiable(golden_dir, kind):
    with torch.enable_grad():
        latent = torch.randn(1, 4, 2, 2, requires_grad=True)
        CODECS[kind](golden_dir).decode_log_depth(latent).sum().backward()
    assert latent.grad.abs().min() > 0


@torch.no_grad()
@pytest.mark.parametrize("kind", CODECS)
def test_half_precision_decodes_near_float32_and_without_bands(golden_dir, kind):
    whole, half = CODECS[kind](golden_dir), CODECS[kind](golden_dir, dtype=torch.bfloat16)
    latent = torch.linspace(-1, 1, 16)[:, None].expand(1, 4, 16, 16)
    expected, decoded = whole.decode_log_depth(latent), half.decode_log_depth(latent)
    assert half.autoencoder.dtype == torch.bfloat16 and decoded.dtype == torch.float32
    assert 0 < (decoded - expected).norm() / expected.norm() < 5e-2
    assert (decoded.diff(dim=-2) == 0).float().mean() < 0.01  # rounded to bfloat16 in the end: a quarter


def test_half_precision_does_not_round_the_decoders_last_layers(golden_dir):
    last = [CODECS["KL"](golden_dir, dtype=dtype).autoencoder.decoder for dtype in (torch.float32, torch.bfloat16)]
    for name in ("conv_norm_out", "conv_out"):
        whole, half = (getattr(decoder, name).weight for decoder in last)
        assert torch.equal(whole, half)


@pytest.mark.parametrize(("kind", "expected"), [("KL", torch.float32), ("tiny", torch.float16)])
def test_float16_is_for_autoencoders_that_do_not_overflow_in_it(golden_dir, kind, expected):
    assert CODECS[kind](golden_dir, dtype=torch.float16).autoencoder.dtype == expected


def test_a_file_without_an_autoencoder_is_refused(golden_dir, tmp_path):
    with pytest.raises(CheckpointError, match="holds no autoencoder"):
        load_codec(golden_dir / "depthfm-micro-heads8.ckpt")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_codec(tmp_path)


@pytest.mark.parametrize("broken", ["missing", "extra", "shape"])
def test_a_wrong_tensor_is_named(golden_dir, tmp_path, broken):
    tensors = load_file(golden_dir / "micro-vae-diffusers.safetensors")
    name = "decoder.conv_out.bias"
    if broken == "missing":
        del tensors[name]
    elif broken == "extra":
        name = "decoder.conv_out.scale"
        tensors[name] = torch.zeros(3)
    else:
        tensors[name] = torch.zeros(5)
    save_file(tensors, tmp_path / "vae.safetensors")
    with pytest.raises(CheckpointError, match=name):
        load_codec(tmp_path / "vae.safetensors")


TWO_LEVELS = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"_class_name": "VQModel"}, "is a VQModel"),
        ({"latent_channels": 16}, "has 16 latent channels and 4 levels; DepthFM needs 4 and 4"),
        ({"block_out_channels": [32, 32], **TWO_LEVELS}, "has 4 latent channels and 2 levels; DepthFM needs 4 and 4"),
        ({"block_out_channels": [32, 7]}, "has a configuration that fits no AutoencoderKL"),
        ({"act_fn": "relu"}, "has the activation 'relu'; 'silu' is used"),
        ({"_class_name": None}, "has 4 latent channels and 1 levels"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(golden_dir, tmp_path, change, told):
    folder = diffusers_folder(golden_dir, tmp_path / "vae")
    config = json.loads((folder / "config.json").read_text()) | change
    if change == {"_class_name": None}:  # as of another kind of network, a text encoder say
        config = {"hidden_size": 1024}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=told):
        load_codec(folder)


def test_of_a_folders_weights_the_whole_ones_come_before_their_variants_and_torchs(tmp_path):
    expected = ["model.safetensors", "model.fp16.safetensors", "model.non_ema.safetensors", "model.bin"]
    for name in expected:
        (tmp_path / name).touch()
    assert [file.name for file in weight_files(tmp_path)] == expected
