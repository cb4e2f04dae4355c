"""What an arm reaches: metrics by domain and number of calls, and their file."""

import json
from pathlib import Path

import torch

from ...depth.align import FARTHEST_M, align
from ...evaluation.metrics import measure
from ...evaluation.protocol import LOWEST_DEPTH_M
from ...model.codec import LatentCodec
from ...model.unet import DepthFMUNet
from ...replacing import write_json
from ..validation import HeldOut, estimate
from .arms import CALLS, Arm

METRICS = ("delta1", "abs_rel")
_ALIGNMENTS = {"log": "log", "linear": "affine"}  # each in the space that it learned
_NOISE_SEED = 0

Scores = dict[str, dict[str, dict[str, float]]]  # domain -> calls -> metric -> mean over the pictures


def measure_arm(network: DepthFMUNet, arm: Arm, codec: LatentCodec, domains: dict[str, HeldOut]) -> Scores:
    """Means over the held-out pictures, one member, aligned by least squares in the space that the arm learned."""
    return {
        domain: {str(calls): _means(network, arm, codec, pictures, calls) for calls in CALLS}
        for domain, pictures in domains.items()
    }


def _means(network: DepthFMUNet, arm: Arm, codec: LatentCodec, pictures: HeldOut, calls: int) -> dict[str, float]:
    usable = pictures.valid.flatten(1).any(1)  # a picture of nothing but sky has no depth to compare with
    image_latent = pictures.image_latent[usable]
    noise = torch.randn(image_latent.shape, generator=torch.Generator().manual_seed(_NOISE_SEED))
    depth = estimate(network, codec, image_latent, noise, arm.noising_step, calls)
    depth_m, valid = pictures.depth_m[usable], pictures.valid[usable]
    aligned = align(depth, depth_m, valid, _ALIGNMENTS[arm.space]).clamp(LOWEST_DEPTH_M, FARTHEST_M)
    scores = measure(aligned, depth_m, valid)
    return {name: float(scores[name].mean()) for name in METRICS}


def scores_path(output: Path, arm: str, seed: int) -> Path:
    """The scores of an arm."""
    return output / "scores" / f"{arm}-{seed}.json"


def write_scores(path: Path, scores: Scores, seconds: float) -> None:
    """One arm's file; it appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"scores": scores, "training_seconds": round(seconds, 1)})


def read_scores(path: Path) -> Scores:
    """The scores in an arm's file."""
    return json.loads(path.read_text(encoding="utf-8"))["scores"]
