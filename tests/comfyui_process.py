"""Facts from inside of the real ComfyUI: a script runs in a process of its own and answers with JSON.

ComfyUI's modules (`comfy`, `nodes`, `folder_paths`) must not mix with the other tests' process.
"""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PACK = Path(__file__).parents[1]
GOLDEN = PACK / "tests" / "golden"


def ask(script: str, folder: Path) -> dict:
    """What a script of this folder answers; it may write into `folder`, where the toy models are."""
    from .comfyui_graphs import save_toy_models
    from .comfyui_server import find_comfyui

    save_toy_models(GOLDEN, folder)  # here, since the script would first have to import diffusers for it
    environment = os.environ | {"PYTHONPATH": str(find_comfyui())}
    command = [sys.executable, str(Path(__file__).with_name(script)), str(folder)]
    done = subprocess.run(command, env=environment, cwd=find_comfyui(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def answer(facts: Callable[[Path], dict]) -> None:
    """The script's side: starts ComfyUI's modules on the CPU, loads the pack as `a_pack`, prints the facts."""
    sys.argv, folder = [sys.argv[0], "--cpu"], Path(sys.argv[1])
    import comfy.options

    comfy.options.enable_args_parsing()
    import torch

    _load_pack()
    with torch.inference_mode():
        print(json.dumps(facts(folder)))


def _load_pack() -> None:
    spec = importlib.util.spec_from_file_location(
        "a_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    sys.modules["a_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["a_pack"])


def toy_model(folder: Path, dtype: str = "default", codec: bool = True):
    """The toy DepthFM with a toy autoencoder inside, or without one, loaded by the pack."""
    from a_pack.nodes.native import load_model

    return load_model(folder / ("whole.safetensors" if codec else "bare.safetensors"), dtype, "plain")


def settings(**changed):
    """Quick settings of the pack's core."""
    from a_pack.depthfm_core.settings import EstimationSettings

    return EstimationSettings(**({"num_steps": 2, "processing_resolution": 64, "ensemble_size": 2} | changed))


def image(frames: int = 1):
    """Noise as pictures, [frames, 3, 64, 72]."""
    import torch

    return torch.rand(frames, 3, 64, 72, generator=torch.Generator().manual_seed(0))


def estimate_image(patcher, frames: int = 1, vae=None, frames_at_once: int = 0, **changed):
    """What the Sampler's run makes of `image`, with `settings`."""
    from a_pack.nodes.runtime import estimate

    return estimate(patcher, image(frames), settings(**changed), vae, frames_at_once)


def log_depth_of(patcher, **changed):
    """The log depth of `image`, with `settings`, [1, 1, 64, 72]."""
    return estimate_image(patcher, **changed).log_depth


def error_of(action: Callable[[], object]) -> BaseException | None:
    """What an action raises, whatever it is."""
    try:
        action()
    except BaseException as error:  # noqa: BLE001 (whatever comes is what the test looks at)
        return error
    return None


def logged(logger: logging.Logger, action: Callable[[], object]) -> list[str]:
    """The messages that an action leaves in a log."""
    said, handler = [], logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger.addHandler(handler)
    try:
        action()
    finally:
        logger.removeHandler(handler)
    return said


def relative(found, expected) -> float:
    """The relative error in the Euclidean norm."""
    return ((found - expected).norm() / expected.norm()).item()
