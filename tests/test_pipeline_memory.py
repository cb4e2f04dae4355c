"""How many members a GPU's free memory holds; the networks are stand-ins, and so is the GPU."""

from dataclasses import replace

import pytest
import torch

from depthfm_core import EstimationSettings, load_pipeline

SIDE = 64  # of the latent of 512 x 512 pixels
ONE_STEP = EstimationSettings(num_steps=1)


class OnCard(str):
    """What says that it is a GPU and takes tensors on the CPU."""

    type = "cuda"


class Network(torch.nn.Module):
    """A constant velocity; remembers how many members it was asked for at a time."""

    def __init__(self, hyper, dtype):
        super().__init__()
        self.hyper, self.device, self.dtype, self.seen = hyper, OnCard("cpu"), dtype, []

    def forward(self, x_t, t, image_latent):
        self.seen.append(len(x_t))
        return torch.ones_like(x_t)


@pytest.fixture(scope="module")
def pipeline(golden_dir):
    return load_pipeline(golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors")


@pytest.fixture
def members_at_once(pipeline, monkeypatch):
    """How many members go through the network together, by its dtype and the free bytes of the GPU."""

    def measured(dtype, free_bytes):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free_bytes, 2 * free_bytes))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 0)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 0)
        on_card = replace(pipeline, network=Network(pipeline.network.hyper, dtype))
        on_card.depth_latents(torch.zeros(1, 4, SIDE, SIDE), torch.zeros(200, 4, SIDE, SIDE), ONE_STEP)
        return on_card.network.seen[0]

    return measured


def test_on_a_gpu_members_follow_the_free_memory_and_the_size_of_a_number(pipeline, members_at_once):
    one = 4 * 64 * SIDE**2 * pipeline.network.hyper.channels[0]  # bytes of 64 float32 values a cell and channel
    free = round(33.5 * one / 0.6)  # room for 33 in the share of it that may be taken
    assert members_at_once(torch.float32, free) == 33
    assert members_at_once(torch.bfloat16, free) == 67
    assert members_at_once(torch.float32, 2 * free) == 67
    assert members_at_once(torch.float32, 0) == 1
