import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

from depthfm_core import EstimationSettings, load_pipeline
from depthfm_core.evaluation.baselines import MethodOptions, load_method
from depthfm_core.model.codec import load_codec
from depthfm_core.model.reading import CheckpointError
from depthfm_core.model.tiny_decoder import SplitCodec, load_tiny_decoder


@pytest.fixture(scope="module")
def tiny():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderTiny().eval()


@pytest.fixture(scope="module")
def latent():
    return torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(1))


def diffusers_folder(tiny, folder):
    tiny.save_pretrained(folder / "taesd")
    return folder / "taesd"


def file_of(tensors, folder):
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "decoder.safetensors")
    return folder / "decoder.safetensors"


def numbered(tiny, prefix=""):
    """The names of the original file, whose sequence begins with a clamp."""
    layers = ((name.split(".", 2)[1:], t) for name, t in tiny.decoder.state_dict().items())
    return {f"{prefix}{int(number) + 1}.{rest}": tensor for (number, rest), tensor in layers}


def torch_file(tiny, folder):
    torch.save(numbered(tiny), folder / "taesd_decoder.pth")
    return folder / "taesd_decoder.pth"


LAYOUTS = {
    "diffusers folder": diffusers_folder,
    "diffusers file": lambda tiny, folder: file_of(tiny.state_dict(), folder),
    "numbered": lambda tiny, folder: file_of(numbered(tiny), folder),
    "numbered torch file": torch_file,
    "numbered, of a whole autoencoder": lambda tiny, folder: file_of(numbered(tiny, "taesd_decoder."), folder),
}


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_decodes_scaled_latents_as_diffusers_does(layout, tiny, latent, tmp_path):
    decoder = load_tiny_decoder(LAYOUTS[layout](tiny, tmp_path))
    torch.testing.assert_close(decoder.decode(latent), tiny.decode(latent).sample)


@torch.no_grad()
def test_a_split_codec_encodes_with_one_and_decodes_with_the_other(golden_dir, tiny, latent, tmp_path):
    kl = load_codec(golden_dir / "micro-vae-diffusers.safetensors")
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    encoded, size = kl.encode(image), sum(p.numel() for p in kl.parameters())
    codec = SplitCodec(kl, load_tiny_decoder(file_of(numbered(tiny), tmp_path)))
    assert torch.equal(codec.encode(image), encoded)
    torch.testing.assert_close(codec.decode(latent), tiny.decode(latent).sample)
    tiny_size = sum(p.numel() for p in tiny.decoder.parameters())
    assert sum(p.numel() for p in codec.parameters()) < size + tiny_size  # the decoder that is not used is dropped


def test_what_is_no_tiny_decoder_is_refused_by_its_name(golden_dir, tiny, tmp_path):
    with pytest.raises(CheckpointError, match="micro-vae.*holds no tiny decoder.*taesd_decoder.safetensors"):
        load_tiny_decoder(golden_dir / "micro-vae-diffusers.safetensors")
    tensors = numbered(tiny)
    del tensors["1.bias"]
    with pytest.raises(CheckpointError, match=r"missing: decoder.layers.0.bias"):
        load_tiny_decoder(file_of(tensors, tmp_path))
    folder = diffusers_folder(tiny, tmp_path)
    (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    with pytest.raises(CheckpointError, match="is a AutoencoderKL"):
        load_tiny_decoder(folder)


@pytest.mark.parametrize("act_fn", ["?", 3])
def test_a_decoders_configuration_that_makes_no_module_is_refused(act_fn, tiny, tmp_path):
    folder = diffusers_folder(tiny, tmp_path)
    (folder / "config.json").write_text(json.dumps({"act_fn": act_fn}))
    with pytest.raises(CheckpointError, match="taesd.*fits no AutoencoderTiny.*taesd_decoder.safetensors"):
        load_tiny_decoder(folder)


@pytest.mark.parametrize(
    "shape",
    [
        {"latent_channels": 16},
        {"decoder_block_out_channels": (8,) * 3, "num_decoder_blocks": (1,) * 3},
        {"encoder_block_out_channels": (8,) * 3, "num_encoder_blocks": (1,) * 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("load", [load_tiny_decoder, load_codec])
def test_a_tiny_autoencoder_of_other_latents_than_depthfms_is_refused(load, shape, tmp_path):
    folder = diffusers_folder(AutoencoderTiny(**shape), tmp_path)
    with pytest.raises(CheckpointError, match="taesd.*latent channels and .* levels; DepthFM needs 4 and 4"):
        load(folder)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_precision_averaged_latents_and_a_tiny_decoder_combine(dtype, golden_dir, tiny, tmp_path):
    parts = (golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors")
    pipeline = load_pipeline(*parts, dtype=dtype, decoder=file_of(numbered(tiny), tmp_path))
    image = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    settings = EstimationSettings(ensemble_size=3, average="latents", processing_resolution=32)
    prediction = pipeline(image, settings)
    own = load_pipeline(*parts, dtype=dtype)(image, settings)
    assert prediction.depth.shape == (1, 1, 40, 56)
    assert prediction.uncertainty.max() > 0
    assert (prediction.log_depth - own.log_depth).abs().max() > 1e-2


def test_predict_and_evaluate_decode_with_the_decoder_that_they_are_given(saved, cli_model, tiny, tmp_path):
    file = str(file_of(numbered(tiny), tmp_path))
    own, other = (
        np.load(saved("--save", "npy", *cli_model, *options)[2] / "photo.npy") for options in ((), ("--decoder", file))
    )
    assert np.abs(own - other).max() > 1e-2
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    settings = EstimationSettings(processing_resolution=32, num_steps=1)
    options = MethodOptions(settings=settings, vae=cli_model[3])
    own, other = (load_method(cli_model[1], replace(options, decoder=d))(image) for d in (None, file))
    assert (own - other).abs().max() > 1e-2


def test_where_another_autoencoder_decodes_it_is_the_one_that_is_compiled(golden_dir, tiny, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **_how: asked.append(function) or function)
    decoding = load_tiny_decoder(diffusers_folder(tiny, tmp_path))
    SplitCodec(load_codec(golden_dir / "micro-vae-diffusers.safetensors"), decoding).compile_decoder(dynamic=False)
    assert asked == [decoding._decode]
