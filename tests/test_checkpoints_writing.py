"""Checkpoints that are written or converted: nothing is lost, and nothing half is left."""

import inspect
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from depthfm_core.model.catalog import NANO_PATH
from depthfm_core.model.checkpoints import (
    CheckpointError,
    convert,
    load_checkpoint,
    save_checkpoint,
    tensors_beside_network,
)
from depthfm_core.model.codec import load_codec
from depthfm_core.model.codec_parts import codec_config, codec_tensors

FIRST = "input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def reference(golden_dir):
    return load_checkpoint(golden_dir / "depthfm-micro-heads8.ckpt")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_conversion_keeps_everything(golden_dir, reference, tmp_path, dtype):
    convert(golden_dir / "depthfm-micro-heads8.ckpt", tmp_path / "out.safetensors", dtype)
    converted = load_checkpoint(tmp_path / "out.safetensors")
    assert converted.hyper == reference.hyper and converted.noising_step == reference.noising_step
    assert converted.processing_resolution == reference.processing_resolution
    assert torch.equal(converted.null_text, reference.null_text)
    assert converted.state_dict[FIRST].dtype == getattr(torch, dtype)
    if dtype != "bfloat16":  # the source is in half precision
        assert all(torch.equal(converted.state_dict[k].half(), reference.state_dict[k]) for k in reference.state_dict)


def test_a_weight_beyond_the_precision_that_it_would_be_written_in_is_named(reference, tmp_path):
    name = "out.2.weight"
    large = replace(reference, state_dict=dict(reference.state_dict) | {name: torch.full((4, 32, 3, 3), 7e4)})
    with pytest.raises(ValueError, match=f"{name} has 7e.04.*bfloat16 or float32"):
        save_checkpoint(large, tmp_path / "out.safetensors", "float16")
    assert not list(tmp_path.iterdir())
    save_checkpoint(large, tmp_path / "out.safetensors", "bfloat16")
    assert load_checkpoint(tmp_path / "out.safetensors").state_dict[name].isfinite().all()


def test_an_autoencoder_and_all_settings_travel_inside(golden_dir, reference, tmp_path):
    codec = load_codec(golden_dir / "micro-vae-diffusers.safetensors")
    whole = replace(
        reference,
        noising_step=300,
        processing_resolution=192,
        spread_scale=1.2345678,
        codec_tensors=codec.autoencoder.state_dict(),
        codec_config=dict(codec.autoencoder.config) | {"_class_name": "AutoencoderKL", "scaling_factor": 0.5},
    )
    save_checkpoint(whole, tmp_path / "whole.safetensors", "float32")
    back = load_checkpoint(tmp_path / "whole.safetensors")
    assert (back.noising_step, back.processing_resolution, back.spread_scale) == (300, 192, 1.2345678)
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = codec.encode(image) / codec.scaling_factor * 0.5
        torch.testing.assert_close(back.build_codec().encode(image), expected)
    assert reference.build_codec() is None


def test_a_bundled_small_autoencoder_keeps_the_blocks_that_are_skipped(tmp_path):
    nano = load_checkpoint(NANO_PATH)
    codec = nano.build_codec()
    again = replace(nano, codec_tensors=codec_tensors(codec), codec_config=codec_config(codec))
    save_checkpoint(again, tmp_path / "again.safetensors")
    back = load_checkpoint(tmp_path / "again.safetensors")
    assert back.codec_tensors.keys() == nano.codec_tensors.keys()
    assert all(torch.equal(back.codec_tensors[name], tensor) for name, tensor in nano.codec_tensors.items())
    assert back.build_codec().scaling_factor == codec.scaling_factor


def test_diffusers_takes_every_name_in_a_written_configuration(golden_dir):
    """It warns of others."""
    for codec in (load_checkpoint(NANO_PATH).build_codec(), load_codec(golden_dir / "micro-vae-diffusers.safetensors")):
        taken = inspect.signature(type(codec.autoencoder)).parameters
        assert codec_config(codec).keys() - taken.keys() == {"_class_name"}


def save_as_others_do(checkpoint, path, **changed):
    """The network under Stable Diffusion's prefix, metadata of another program's, and what we put beside them."""
    network = {f"model.diffusion_model.{name}": tensor for name, tensor in checkpoint.state_dict.items()}
    tensors = network | tensors_beside_network(checkpoint) | changed
    save_file({k: t.contiguous() for k, t in tensors.items()}, path, {"prompt": "", "noising_step": "7"})


def test_a_file_whose_metadata_another_program_wrote_says_the_same_in_tensors(golden_dir, tmp_path):
    reference = load_checkpoint(golden_dir / "depthfm-micro-headdim16.ckpt")
    codec = load_codec(golden_dir / "micro-vae-diffusers.safetensors")
    whole = replace(
        reference,
        path=tmp_path / "a.safetensors",
        noising_step=300,
        processing_resolution=192,
        spread_scale=1.25,
        parameterization="diff2flow",
        codec_tensors=codec_tensors(codec),
        codec_config=codec_config(codec),
        training={"version": "1"},
    )
    save_as_others_do(whole, whole.path)
    back = load_checkpoint(whole.path)
    for name in ("state_dict", "codec_tensors"):
        found, expected = getattr(back, name), getattr(whole, name)
        assert found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in expected)
    assert torch.equal(back.null_text, whole.null_text)
    assert back.build_codec().scaling_factor == codec.scaling_factor
    tensors = ("state_dict", "codec_tensors", "null_text", "codec_config")
    assert vars(back) == vars(whole) | {name: getattr(back, name) for name in tensors}


@pytest.mark.parametrize(
    "facts",
    [
        torch.zeros(3),
        torch.zeros(2, dtype=torch.bfloat16),
        torch.tensor(list(b"[1]"), dtype=torch.uint8),
        torch.tensor(list(b'{"noising_step": null}'), dtype=torch.uint8),
        torch.tensor([255], dtype=torch.uint8),
    ],
)
def test_facts_that_cannot_be_read_are_an_error_that_says_so(reference, tmp_path, facts):
    save_as_others_do(reference, tmp_path / "a.safetensors", depthfm_facts=facts)
    with pytest.raises(CheckpointError, match="describes itself wrongly"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_conversion_refuses_what_would_lose_data(golden_dir, tmp_path):
    source = golden_dir / "depthfm-micro-heads8.ckpt"
    for name, dtype, told in (("a.ckpt", "float16", "safetensors"), ("a.safetensors", "int8", "int8")):
        with pytest.raises(ValueError, match=told):
            convert(source, tmp_path / name, dtype)
    assert list(tmp_path.iterdir()) == []
    convert(source, tmp_path / "a.safetensors", "float32")
    content = (tmp_path / "a.safetensors").read_bytes()
    with pytest.raises(ValueError, match="is the file to convert"):
        convert(tmp_path / "a.safetensors", tmp_path / "a.safetensors", "float16")
    assert (tmp_path / "a.safetensors").read_bytes() == content


def test_conversion_refuses_its_source_by_another_spelling(golden_dir, tmp_path, caseless):
    convert(golden_dir / "depthfm-micro-heads8.ckpt", tmp_path / "a.safetensors", "float32")
    (tmp_path / "A.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    with pytest.raises(ValueError, match="A.safetensors is the file to convert"):
        convert(tmp_path / "a.safetensors", tmp_path / "A.safetensors", "float16")


def test_a_failed_write_leaves_nothing(reference, tmp_path):
    with pytest.raises(OSError):
        save_checkpoint(reference, tmp_path / "missing" / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_written_file_may_be_read_by_whom_any_new_file_may(reference, tmp_path):
    save_checkpoint(reference, tmp_path / "a.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_weights_of_the_wanted_dtype_stay_mapped_from_disk(golden_dir, tmp_path):
    convert(golden_dir / "depthfm-micro-heads8.ckpt", tmp_path / "a.safetensors", "float32")
    checkpoint = load_checkpoint(tmp_path / "a.safetensors")
    network = checkpoint.build_unet()
    assert network.unet.conv_in.weight.data_ptr() == checkpoint.state_dict[FIRST].data_ptr()


@pytest.mark.parametrize(("stated", "own"), [(None, False), (0.18215, False), (1.0, False), (0.9, True)])
def test_latents_of_another_scale_than_stable_diffusions_are_the_models_own(reference, stated, own):
    config = {} if stated is None else {"scaling_factor": stated}
    whole = replace(reference, codec_tensors={"weight": torch.zeros(1)}, codec_config=config)
    assert whole.has_latents_of_its_own == own and not reference.has_latents_of_its_own
