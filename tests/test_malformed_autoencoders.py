"""Autoencoders that are none, or of a wrong configuration, and what beside one does not matter."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from depthfm_core.model.catalog import NANO_PATH
from depthfm_core.model.checkpoints import load_checkpoint
from depthfm_core.model.codec import build_codec, load_codec
from depthfm_core.model.reading import CheckpointError

from .malformed import in_itself


@pytest.mark.parametrize("key", ["epoch", 7, "hook"])
def test_what_training_leaves_beside_an_autoencoder_does_not_matter(good_files, tmp_path, key):
    weights = load_file(good_files["vae"])
    for name, content in (("flat", weights | {key: 3}), ("nested", {"state_dict": weights | {key: b"x"}, key: 3})):
        torch.save(content, tmp_path / f"{name}.ckpt")
        assert all(
            torch.equal(tensor, weights[name])
            for name, tensor in load_codec(tmp_path / f"{name}.ckpt").autoencoder.state_dict().items()
        )


def shared_ever_more():
    inner = {"w": torch.zeros(1)}
    for _ in range(30):
        inner = {"a": inner, "b": inner}
    return inner


NO_AUTOENCODERS = {
    "a tensor for a state": lambda _: {"state_dict": torch.zeros(2)},
    "a list for a state": lambda _: {"state_dict": [1]},
    "numbers for names": lambda _: {1: 2},
    "bytes for a tensor": lambda _: {"encoder.down_blocks.0.resnets.0.conv1.weight": b"x"},
    "whole numbers": lambda vae: {name: tensor.int() for name, tensor in vae.items()},
    "a sparse tensor": lambda vae: vae | {"encoder.conv_in.weight": vae["encoder.conv_in.weight"].to_sparse()},
    "a tensor without values": lambda vae: vae | {"encoder.conv_in.weight": vae["encoder.conv_in.weight"].to("meta")},
    "a dictionary in itself": lambda _: in_itself(),
    "a few dictionaries that are shared a billion times": lambda _: shared_ever_more(),
}


@pytest.mark.parametrize("kind", NO_AUTOENCODERS)
def test_what_is_no_autoencoder_is_refused(good_files, refused, tmp_path, kind):
    torch.save(NO_AUTOENCODERS[kind](load_file(good_files["vae"])), tmp_path / "v.ckpt")
    assert "v.ckpt" in refused(vae=tmp_path / "v.ckpt")


WRONG_CODECS = {
    "scaling_factor": (None, "abc", [1], 0, -1.0, True, float("nan"), float("inf")),
    "layers_per_block": (10**6, 1.5, "x", True),
    "block_out_channels": ([8] * 10**6,),
    "_class_name": (["AutoencoderKL"], 5),
}


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, values in WRONG_CODECS.items() for v in values])
def test_a_wrong_configuration_of_an_autoencoder_is_refused(good_files, golden_dir, tmp_path, name, value):
    config = json.loads((golden_dir / "micro-vae-diffusers.json").read_text()) | {name: value}
    with pytest.raises(CheckpointError):
        build_codec(load_file(good_files["vae"]), config, source="v")


def test_blocks_without_end_of_a_bundled_autoencoder_are_refused():
    checkpoint = load_checkpoint(NANO_PATH)
    config = dict(checkpoint.codec_config) | {"num_decoder_blocks": [10**6, 3, 3, 1]}
    with pytest.raises(CheckpointError, match="num_decoder_blocks"):
        replace(checkpoint, codec_config=config).build_codec()


def test_a_configuration_that_is_nested_without_end_is_refused(good_files, tmp_path):
    shutil.copy(good_files["vae"], tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text("[" * 50_000)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_codec(tmp_path)
