"""Facts about DepthFM Decode; `comfyui_runtime_facts.py` answers with them."""

from comfyui_process import error_of, relative
from live_bytes import LiveBytes

PLANE = 32 * 40 * 4  # bytes of a decoded map


def decode_facts(model) -> dict:
    """Two images sampled three times each, as core's node repeats them, against the codec and the ensemble."""
    import torch
    from a_pack.depthfm_core.flow import combine_members
    from a_pack.nodes.decoding import decode
    from a_pack.nodes.vae import VaeCodec

    from nodes import RepeatLatentBatch

    vae = model.model.facts.vae
    images, noise = (_random(n) for n in (2, 6))
    (repeated,) = RepeatLatentBatch().repeat({"samples": images}, 3)
    latent = repeated["samples"] + 0.1 * noise
    found = decode(latent, vae, 3, "median")
    decoded = VaeCodec(vae, 1.0).decode_log_depth(latent)
    centre, spread = combine_members(torch.stack([decoded[0::2], decoded[1::2]]), "median")
    return {
        "decode_difference": relative(found.log_depth, centre) + relative(found.uncertainty, spread),
        "spread_of_an_image": found.uncertainty.mean().item() / (decoded[0] - decoded[1]).abs().mean().item(),
        "decode_shape": list(found.depth.shape),
        "indivisible": str(error_of(lambda: decode(latent, vae, 4, "mean"))),
        "wrong_latent": str(error_of(lambda: decode(torch.zeros(1, 16, 4, 4), vae, 1, "mean"))),
        "planes_of_decode": _planes(vae),
        "decode_bar": _bar(lambda: decode(latent, vae, 3, "mean"), None),
        "decode_cancelled": _bar(lambda: decode(latent, vae, 3, "mean"), 4),
        "ksampler_noise": _ksampler_noise(model),
    }


def _ksampler_noise(model) -> dict[str, float]:
    """How far two equal frames come out apart behind core's nodes, and how far the two members of one."""
    from comfy_extras.nodes_latent import LatentBatchSeedBehavior

    from nodes import RepeatLatentBatch, common_ksampler

    def sampled(latent: dict):
        text = [[model.model.facts.source.null_text, {}]]
        return common_ksampler(model, 5, 1, 1.0, "euler", "simple", text, text, latent, 1.0)[0]["samples"]

    frames = {"samples": _random(1).repeat(2, 1, 1, 1)}
    (fixed,) = LatentBatchSeedBehavior.execute(frames, "fixed").args
    (repeated,) = RepeatLatentBatch().repeat(fixed, 2)
    alone, shared = sampled(frames), sampled(repeated)  # both frames, and both once more
    return {
        "frames": relative(alone[0], alone[1]),
        "frames of one noise": max(relative(shared[0], shared[1]), relative(shared[2], shared[3])),
        "members": relative(shared[0], shared[2]),
    }


def _random(count: int):
    import torch

    return torch.randn(count, 4, 4, 5, generator=torch.Generator().manual_seed(count))


def _planes(vae) -> dict[str, float]:
    """How many planes more are alive at most for each frame more, and for each member more."""
    from a_pack.nodes.decoding import decode

    def peak(frames: int, members: int) -> float:
        latent = _random(frames * members)
        with LiveBytes() as live:
            decode(latent, vae, members, "mean")
        return live.peak / PLANE

    peak(2, 4)  # loads the VAE
    return {"a frame": (peak(7, 4) - peak(2, 4)) / 5, "a member": (peak(2, 12) - peak(2, 4)) / 8}


def _bar(run, cancel_at: int | None) -> list:
    """Where the bar was until the end, or until the user's cancel at a value; and how it ended."""
    import comfy.model_management as mm
    import comfy.utils

    seen = []

    def hook(value, total, _preview, node_id=None):  # noqa: ARG001
        seen.append([value, total])
        if value == cancel_at:
            mm.interrupt_current_processing(True)

    comfy.utils.set_progress_bar_global_hook(hook)
    error = error_of(run)
    comfy.utils.set_progress_bar_global_hook(None)
    return [type(error).__name__, seen]
