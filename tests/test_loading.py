"""What `load_pipeline` refuses, and what it counts on."""

import inspect
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from depthfm_core import load_pipeline, loading
from depthfm_core.batching import free_gpu_bytes
from depthfm_core.loading import chosen_device
from depthfm_core.model.catalog import NANO_PATH, find_model
from depthfm_core.model.checkpoints import load_checkpoint, save_checkpoint


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"device": "gpu"}, "no device 'gpu'; choose auto, cpu, cuda, cuda:1 or mps.$"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"device": "meta"}, "Device 'meta' cannot be used.*choose auto, cpu"),
        ({"dtype": "int8"}, "bfloat16"),
        ({"vae": None}, "autoencoder"),
        ({"model": "no-such-model"}, "nano"),
        ({"model": "depthfm-v1"}, "download"),
        ({"model": "depthfm-v1", "downloaded": True, "vae": None}, "lacks its autoencoder, .*download"),
        ({"scale": 0.13025}, "scales its latents by 0.13025.*SDXL"),
        ({"attention": "flash"}, "rescaled"),
        ({"model": "nano"}, "leave out vae"),
        ({"model": "nano", "vae": None, "decoder": "taesd"}, "leave out decoder"),
    ],
)
def test_a_pipeline_that_cannot_be_says_why(golden_dir, tmp_path, monkeypatch, arguments, word):
    monkeypatch.setenv("DEPTHFM_HOME", str(tmp_path))
    usual = {"model": golden_dir / "depthfm-micro-heads8.ckpt", "vae": golden_dir / "micro-vae-diffusers.safetensors"}
    arguments = dict(arguments)
    if arguments.pop("downloaded", False):
        (tmp_path / "depthfm-v1").mkdir()
        shutil.copy(usual["model"], tmp_path / "depthfm-v1" / "depthfm-v1.ckpt")
    if scale := arguments.pop("scale", None):
        config = json.loads((golden_dir / "micro-vae-diffusers.json").read_text()) | {"scaling_factor": scale}
        (tmp_path / "config.json").write_text(json.dumps(config))
        shutil.copy(usual["vae"], tmp_path / "diffusion_pytorch_model.safetensors")
        usual["vae"] = tmp_path
    with pytest.raises(ValueError, match=word):
        load_pipeline(**(usual | arguments))


@pytest.mark.parametrize("device", ["auto", None])
@pytest.mark.parametrize("there", ["cuda", "mps", "cpu"])
def test_a_device_that_is_left_open_is_the_fastest_that_is_there(device, there, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there == "cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there == "mps")
    assert chosen_device(device) == there and chosen_device("cpu") == "cpu"


def test_a_pipeline_goes_to_the_device_that_auto_means_and_to_the_cpu_by_default(monkeypatch):
    monkeypatch.setattr(loading, "chosen_device", lambda device: "gpu" if device == "auto" else device)
    with pytest.raises(ValueError, match="no device 'auto'"):
        load_pipeline("nano", device="auto")
    assert inspect.signature(load_pipeline).parameters["device"].default == "cpu"


def test_a_names_text_is_a_model_and_a_path_is_what_lies_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nano").mkdir()
    assert find_model("nano") == (NANO_PATH, None)
    assert find_model(Path("nano")) == find_model("./nano") == (Path("nano"), None)


def test_what_pytorch_holds_without_using_it_counts_as_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 20)
    assert free_gpu_bytes(torch.device("cuda")) == 130


def test_the_pipeline_takes_every_number_of_its_file(golden_dir, tmp_path):
    numbers = {"spread_scale": 2.5, "noising_step": 300, "processing_resolution": 128}
    toy = load_checkpoint(golden_dir / "depthfm-micro-heads8.ckpt")
    assert all(getattr(toy, name) != value for name, value in numbers.items())
    save_checkpoint(replace(toy, **numbers), tmp_path / "toy.safetensors", "float32")
    pipeline = load_pipeline(tmp_path / "toy.safetensors", golden_dir / "micro-vae-diffusers.safetensors")
    assert {name: getattr(pipeline, name) for name in numbers} == numbers
