"""What each of several processes does in `test_training_processes.py`: short trainings, some of them broken off."""

import shutil
import sys
from pathlib import Path

import torch

from depthfm_core.model.hyperparameters import UNetHyperParameters
from depthfm_core.share import Share, this_share
from depthfm_core.training.engine import Engine
from depthfm_core.training.latents import LatentSet
from depthfm_core.training.loop import LoopSettings, train
from depthfm_core.training.shards import write_shard
from depthfm_core.training.velocity import FlowSettings, build_network, flow_objective

TOY = UNetHyperParameters(
    model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(2,), context_dim=8, num_heads=2
)
# Five samples on two processes are three and two, and go through the network two at a time at most.
LOOP = LoopSettings(
    num_steps=4,
    batch_size=5,
    learning_rate=1e-3,
    warmup_steps=1,
    save_every=2,
    mixed_precision="no",
    micro_batch_size=2,
    gradient_checkpointing=True,
)
SETTINGS = FlowSettings(("a",), LOOP)


def write_latents(folder: Path) -> None:
    """Random latents of which very different shares are valid."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    image_latent, depth_latent = torch.randn(2, 8, 4, 8, 8, generator=generator).half()
    valid = torch.rand(8, 8, 8, generator=generator) < torch.linspace(0, 1, 8)[:, None, None]
    tensors = {"image_latent": image_latent.clone(), "depth_latent": depth_latent.clone(), "valid": valid.byte()}
    write_shard(folder / "a-0000.safetensors", tensors, {})


def run(folder: Path, name: str, share: Share, stop: int | None = None) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Trains in `folder / name`, or goes on there, up to a step: the weights, and the loss of each step."""
    losses, backward = [], Engine.backward
    objective = flow_objective(LatentSet([folder / "latents"]), SETTINGS, None)

    def draw(random):
        if random.step == stop:
            raise KeyboardInterrupt
        return objective.draw(random)

    def recorded(*arguments):
        found = backward(*arguments)
        losses.append(float(found["loss"]))
        return found

    network = build_network(TOY, 2, seed=0)
    Engine.backward = recorded
    try:
        train(network, objective._replace(draw=draw), LOOP, folder / name, share=share)
    except KeyboardInterrupt:
        pass
    finally:
        Engine.backward = backward
    return network.unet.state_dict(), losses


def main(folder: Path) -> None:
    share = this_share()
    runs = {"two": None, "two_broken": 2, "one_broken": None}
    results = {name: run(folder, name, share, stop) for name, stop in runs.items()}
    if share.is_first:
        shutil.copytree(folder / "two_broken", folder / "two_resumed")
    share.wait()
    results["two_resumed"] = run(folder, "two_resumed", share)
    torch.save(results, folder / f"process{share.index}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
