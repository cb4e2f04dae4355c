"""What the whole of training comes to: a small network learns one batch by heart."""

import pytest
import torch

from depthfm_core import load_pipeline
from depthfm_core.depth.align import align
from depthfm_core.evaluation.metrics import measure
from depthfm_core.training.latents import LatentSet, encode
from depthfm_core.training.loop import LoopSettings
from depthfm_core.training.shards import write_shard
from depthfm_core.training.target import NormalizationSettings
from depthfm_core.training.validation import HeldOut, estimate
from depthfm_core.training.velocity import FlowSettings, build_network, train_velocity
from depthfm_core.training.views import depth_picture

from .test_training import TOY

SEEDS = (2, 4, 5, 8)  # indoors, with little that is thin: the small autoencoder itself reaches 0.99 at this size
SIDE_PX = 64


def test_a_network_that_learns_one_batch_by_heart_reaches_a_delta1_of_95_percent(tmp_path):
    pytest.importorskip("embreex")
    pytest.importorskip("numba")
    from depthfm_core.data.synthetic import render_scene

    codec, frames = load_pipeline("nano").codec, [render_scene(seed, (SIDE_PX, SIDE_PX)) for seed in SEEDS]
    image = torch.stack([frame.image for frame in frames])
    image_latent = encode(codec, image * 2 - 1)
    depths = [depth_picture(frame, NormalizationSettings(), sky_is_far=True) for frame in frames]
    depth_latent = encode(codec, torch.stack(depths))
    depth_m, valid = (torch.stack([getattr(frame, name) for frame in frames]) for name in ("depth_m", "valid"))
    latents = {
        "image_latent": image_latent.half(),
        "depth_latent": depth_latent.half(),
        "valid": valid[:, 0, ::8, ::8].byte(),
    }
    write_shard(tmp_path / "rooms-0000.safetensors", {name: t.contiguous() for name, t in latents.items()}, {})
    noise = torch.randn(image_latent.shape, generator=torch.Generator().manual_seed(5))
    network = build_network(TOY, 2, seed=0)

    def delta1():
        log_depth = estimate(network, codec, image_latent, noise, 400)
        return measure(align(log_depth, depth_m, valid, "log"), depth_m, valid)["delta1"]

    before = delta1()
    loop = LoopSettings(200, 4, 5e-3, warmup_steps=20, ema_decay=0.99, weight_decay=0.0, mixed_precision="no")
    held_out = HeldOut(image_latent, depth_m, valid, image)
    train_velocity(network, LatentSet([tmp_path]), FlowSettings(("rooms",), loop), held_out, codec, tmp_path / "flow")
    assert before.max() < 0.8 and delta1().min() > 0.95
