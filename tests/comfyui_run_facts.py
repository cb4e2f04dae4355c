"""Facts about what a run asks of ComfyUI and tells it, see `test_nodes_run.py`; run by `comfyui_process.ask`."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from comfyui_process import answer, error_of, image, settings, toy_model


def facts(folder: Path) -> dict:
    """Everything that the tests ask about."""
    model = toy_model(folder)
    return {
        "numbers_of_the_file": _numbers_of_the_file(folder),
        "memory_on_a_gpu": _memory_on_a_gpu(),
        "members_of_groups": _members_of_groups(model),
        "emptied": _emptied(),
        "announced": [_announced(model), _announced(model, fails=True)],
        "attention_precisions": _attention_precisions(model),
    }


@contextmanager
def _replaced(owner: object, name: str, value: object):
    """Puts `value` in the place of an attribute for a while."""
    real = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield real
    finally:
        setattr(owner, name, real)


def _numbers_of_the_file(folder: Path) -> list[list]:
    """What the nodes' pipeline has of a file's numbers, and what the file has, none of them a default."""
    from dataclasses import replace

    from a_pack.depthfm_core.model.checkpoints import load_checkpoint, save_checkpoint
    from a_pack.nodes.native import load_model
    from a_pack.nodes.runtime import _pipeline

    numbers = {"spread_scale": 2.5, "noising_step": 300, "processing_resolution": 128}
    toy = replace(load_checkpoint(folder / "whole.safetensors"), **numbers)
    save_checkpoint(toy, folder / "numbers.safetensors", "float32")
    pipeline = _pipeline(load_model(folder / "numbers.safetensors", "default", "plain"), None, int)
    return [[getattr(pipeline, name) for name in numbers], list(numbers.values())]


def _memory_on_a_gpu() -> int:
    """Of 1000 bytes, beside a model of 300."""
    import torch
    from a_pack.nodes import runtime

    patcher = SimpleNamespace(load_device=torch.device("cuda"), model_size=lambda: 300)
    with _replaced(runtime.mm, "get_total_memory", lambda _device: 1000):
        return runtime._memory_for_a_run(patcher)


def _members_of_groups(model) -> list[int]:
    """How many members are tried at a time for three frames of four, one frame a group, with room for two members."""
    from a_pack.nodes import runtime

    tried, velocity = [], runtime.ManagedNetwork.__call__

    def with_room_for_two(self, x_t, t, image_latent):
        tried.append(len(x_t))
        if len(x_t) > 2:
            raise runtime.mm.OOM_EXCEPTION("out of memory")
        return velocity(self, x_t, t, image_latent)

    chosen = settings(num_steps=1, ensemble_size=4)
    with (
        _replaced(runtime.ManagedNetwork, "__call__", with_room_for_two),
        _replaced(runtime, "_pairs_that_fit", lambda *_: 16),
    ):
        runtime.estimate(model, image(3), chosen, None, frames_at_once=1)
    return tried


def _emptied() -> list:
    """When memory that PyTorch holds is given back, among the numbers of members that are tried."""
    from a_pack.nodes import runtime

    events = []

    def run(_frames, chosen):
        events.append(chosen.members_at_once)
        if chosen.members_at_once > 2:
            raise runtime.mm.OOM_EXCEPTION("out of memory")

    with _replaced(runtime.mm, "soft_empty_cache", lambda *_: events.append("emptied")):
        runtime._with_less_memory(run, None, settings(members_at_once=8), int)
    return events


def _announced(model, *, fails: bool = False) -> list[str]:
    """What the patcher hears of a run, and when the network is called."""
    from a_pack.nodes import runtime

    patcher, events = model.clone(), []
    velocity = runtime.ManagedNetwork.__call__

    def recording(name, real):
        return lambda: (events.append(name), real())

    patcher.pre_run, patcher.cleanup = (recording(name, getattr(patcher, name)) for name in ("pre_run", "cleanup"))

    def called(*args):
        events.append("network")
        if fails:
            raise ValueError("as a patch may")
        return velocity(*args)

    with _replaced(runtime.ManagedNetwork, "__call__", called):
        error_of(lambda: runtime.estimate(patcher, image(), settings(num_steps=1, ensemble_size=1), None))
    return events


def _attention_precisions(model) -> list[str]:
    blocks = [m for m in model.model.diffusion_model.modules() if hasattr(m, "attn_precision")]
    return sorted({str(block.attn_precision) for block in blocks})


if __name__ == "__main__":
    answer(facts)
