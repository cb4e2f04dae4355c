"""Times the Sampler inside of the real ComfyUI against the core on the same work, in turns: no test, run by hand.

    PYTHONPATH=COMFYUI python tests/comfyui_speed.py [--published SIDE] [--repeats 7]

COMFYUI is ComfyUI's folder, which is also where to run it. Nano goes from a picture to its depth, with two steps and
four members; --published instead calls the network of published width, random weights, for four members of SIDE pixels.
It prints the medians of CPU seconds and the ratios of neighbors; one thread (OMP_NUM_THREADS=1) is the steadiest.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from comfyui_process import PACK, answer


def main() -> None:
    """Prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", type=int, default=0, metavar="SIDE")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    sys.argv = [sys.argv[0], "."]

    def facts(_folder: Path) -> dict:
        pair = _published(options.published) if options.published else _nano()
        return _in_turns(*pair, options.repeats)

    answer(facts)


def _in_turns(core: Callable[[], object], comfyui: Callable[[], object], repeats: int) -> dict:
    times = [[_seconds(core), _seconds(comfyui)] for _ in range(repeats + 1)][1:]
    ratios = [theirs / ours for ours, theirs in times]
    medians = [round(statistics.median(column), 3) for column in zip(*times, strict=True)]
    spread = [round(ratio, 3) for ratio in (min(ratios), statistics.median(ratios), max(ratios))]
    return {"core_s": medians[0], "comfyui_s": medians[1], "ratio_least_median_most": spread}


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _nano() -> tuple[Callable, Callable]:
    import numpy
    import torch
    from a_pack.depthfm_core.loading import load_pipeline
    from a_pack.depthfm_core.model.catalog import NANO_PATH
    from a_pack.depthfm_core.settings import EstimationSettings
    from a_pack.nodes.native import load_model
    from a_pack.nodes.runtime import estimate
    from PIL import Image

    with Image.open(PACK / "docs" / "example.jpg") as picture:
        image = torch.from_numpy(numpy.asarray(picture.convert("RGB")) / 255).permute(2, 0, 1)[None].float()
    settings = EstimationSettings(num_steps=2, ensemble_size=4)
    pipeline, model = load_pipeline("nano"), load_model(NANO_PATH, "default", "plain")
    return lambda: pipeline(image, settings), lambda: estimate(model, image, settings, None)


def _published(side: int) -> tuple[Callable, Callable]:
    import comfy.ops
    import torch
    from a_pack.depthfm_core.model.hyperparameters import UNetHyperParameters
    from a_pack.depthfm_core.model.unet import DepthFMUNet
    from a_pack.nodes.attention import _fused_attention
    from a_pack.nodes.native import _unet_config
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    hyper, text = UNetHyperParameters(320, (1, 2, 4, 4), 2, (1, 2, 4), 1024), torch.randn(1, 77, 1024)
    core = _random(lambda: DepthFMUNet(hyper, torch.empty(1, 77, 1024)))
    core.null_text = text
    core.fix_null_text()
    operations = {"operations": comfy.ops.disable_weight_init, "attn_precision": torch.float32}
    comfyui = _random(lambda: UNetModel(**_unet_config(hyper), **operations, dtype=torch.float32))
    x_t, t = torch.randn(4, 4, side // 8, side // 8), torch.full((4,), 0.5)
    sample, texts = torch.cat([x_t, x_t], dim=1), text.expand(4, -1, -1)
    patches = {"optimized_attention_override": _fused_attention}
    return lambda: core(x_t, t, x_t), lambda: comfyui(sample, t, texts, transformer_options=dict(patches))


def _random(build: Callable) -> object:
    import torch

    with torch.device("meta"):
        network = build()
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter.data, std=0.01)
    return network


if __name__ == "__main__":
    main()
