"""What of the runtime cannot be seen over HTTP: memory, cancel, the VAE on the socket. Runs inside the real ComfyUI.

ComfyUI's modules (`comfy`, `nodes`, `folder_paths`) must not mix with the other tests' process, so this file runs
itself in a process of its own, which answers with JSON.
"""

import asyncio
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACK = Path(__file__).parents[1]
GOLDEN = PACK / "tests" / "golden"
pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    from .comfyui_server import find_comfyui

    environment = os.environ | {"PYTHONPATH": str(find_comfyui())}
    command = [sys.executable, str(Path(__file__).resolve()), str(tmp_path_factory.mktemp("models"))]
    done = subprocess.run(command, env=environment, cwd=find_comfyui(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_node_takes_exactly_what_its_schema_offers(facts):
    assert len(facts["signatures"]) == 6
    for offered, taken in facts["signatures"].values():
        assert offered == taken


def test_running_out_of_memory_halves_the_members_until_it_fits(facts):
    assert facts["members_tried"] == [5, 2, 1]


def test_the_next_frame_starts_with_what_fitted(facts):
    assert facts["members_tried_next_frame"] == [1]


def test_with_one_member_left_the_error_comes_through(facts):
    assert facts["hopeless"] == "OutOfMemoryError"


def test_members_at_once_do_not_change_the_depth(facts):
    assert facts["difference_by_members_at_once"] < 1e-4


def test_members_at_once_follow_the_free_memory_up_to_the_ensemble(facts):
    assert facts["members_that_fit"] == {"nothing": 1, "three": 3, "plenty": 5}


def test_cancel_ends_the_run_at_the_next_network_call_and_the_next_run_is_right(facts):
    assert facts["calls_before_cancel"] == 2
    assert facts["difference_after_cancel"] == 0


def test_progress_counts_every_network_call_and_ends_full(facts):
    assert facts["progress"] == [0, 0, 2, 4, 4, 6, 8]  # made, begun, two steps of two members, twice
    assert facts["progress_total"] == 8


def test_the_vae_on_the_socket_gives_what_the_same_autoencoder_inside_the_model_gives(facts):
    assert facts["log_depth_range"] > 0.1
    assert facts["vae_difference"] < 1e-3


def test_the_vae_on_the_socket_is_not_changed(facts):
    assert facts["vae_attributes_changed"] == []


def test_an_unclamped_decode_leaves_the_range_of_pictures(facts):
    assert facts["raw_decode_maximum"] > 1.5


def test_a_vae_of_another_kind_is_refused_by_its_number_of_channels(facts):
    assert "16 latent channels" in facts["wrong_vae"]


def test_an_existing_model_folder_is_kept_and_ours_is_added_once(facts):
    folders, suffixes = facts["merged_folder"]
    assert folders[0] == "/theirs" and len(folders) == 2 and folders[1].endswith("depthfm")
    assert {".theirs", ".safetensors", ".ckpt"} <= set(suffixes)


def test_of_two_files_with_one_name_our_folder_wins_and_other_models_are_not_offered(facts):
    assert facts["menu"] == {"nano": None, "a.safetensors": "depthfm", "DepthFM-v1.ckpt": "checkpoints"}


def _facts(folder: Path) -> dict:
    """Everything that the tests above ask about."""
    pack = _load_pack()
    nodes = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
    from a_pack.nodes import runtime

    model, vae = _model(runtime, folder), _vae()
    return {
        "signatures": {node.__name__: _signature(node) for node in nodes},
        **_memory_facts(runtime, model),
        **_run_facts(runtime, model),
        **_vae_facts(runtime, model, vae),
        **_folder_facts(),
    }


def _load_pack():
    spec = importlib.util.spec_from_file_location(
        "a_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    pack = sys.modules["a_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    return pack


def _signature(node) -> tuple[list, list]:
    return sorted(i.id for i in node.GET_SCHEMA().inputs), sorted(inspect.signature(node.execute).parameters)


def _model(runtime, folder: Path):
    """The toy model with a toy autoencoder inside."""
    from a_pack.depthfm_core.model.checkpoints import load_checkpoint, replace_codec, save_checkpoint
    from a_pack.depthfm_core.model.codec import load_codec

    codec = load_codec(GOLDEN / "micro-vae-diffusers.safetensors")
    checkpoint = replace_codec(load_checkpoint(GOLDEN / "depthfm-micro-heads8.ckpt"), codec)
    save_checkpoint(checkpoint, folder / "whole.safetensors", "float32")
    return runtime.load_model(folder / "whole.safetensors", "default", "plain")


def _vae():
    """The same autoencoder as ComfyUI's VAE."""
    import comfy.sd
    import comfy.utils

    config = json.loads((GOLDEN / "micro-vae-diffusers.json").read_text(encoding="utf-8"))
    channels = config["block_out_channels"]
    ddconfig = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": channels[0],
        "ch_mult": [width // channels[0] for width in channels],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    tensors = comfy.utils.load_torch_file(str(GOLDEN / "micro-vae-diffusers.safetensors"))
    return comfy.sd.VAE(sd=tensors, config={"params": {"ddconfig": ddconfig, "embed_dim": 4}})


def _settings(**changed):
    from a_pack.depthfm_core.pipeline import EstimationSettings

    return EstimationSettings(**({"num_steps": 2, "processing_resolution": 64, "ensemble_size": 2} | changed))


def _image(frames: int = 1):
    import torch

    return torch.rand(frames, 3, 64, 72, generator=torch.Generator().manual_seed(0))


def _memory_facts(runtime, model) -> dict:
    tried = []

    def pipeline_with_room_for(members):
        def run(frame, settings):
            tried.append(settings.members_at_once)
            if settings.members_at_once > members:
                raise runtime.mm.OOM_EXCEPTION("out of memory")
            return "depth"

        return run

    _, settings = runtime._with_less_memory(pipeline_with_room_for(1), None, _settings(members_at_once=5), int)
    first = list(tried)
    tried.clear()
    runtime._with_less_memory(pipeline_with_room_for(1), None, settings, int)
    hopeless = _error_of(lambda: runtime._with_less_memory(pipeline_with_room_for(0), None, settings, int))
    pipeline = runtime._pipeline(model, None, int)
    one, all_five = (pipeline(_image(), _settings(members_at_once=n, ensemble_size=5)) for n in (1, 5))
    return {
        "members_tried": first,
        "members_tried_next_frame": tried[:1],
        "hopeless": type(hopeless).__name__,
        "difference_by_members_at_once": (one.log_depth - all_five.log_depth).abs().max().item(),
        "members_that_fit": _members_that_fit(runtime, pipeline),
    }


def _members_that_fit(runtime, pipeline) -> dict:
    one_member = (
        64 * 80 * runtime.DECODER_BYTES_PER_PIXEL / runtime.SHARE_OF_FREE_MEMORY
    )  # 64x72 px are padded to 64x80
    free = {"nothing": 0, "three": 3.5 * one_member, "plenty": 1e15}
    real, fitting = runtime.mm.get_free_memory, {}
    for name, amount in free.items():
        runtime.mm.get_free_memory = lambda _device, amount=amount: amount
        fitting[name] = runtime._members_that_fit(pipeline, _image(), _settings(ensemble_size=5))
    runtime.mm.get_free_memory = real
    return fitting


def _run_facts(runtime, model) -> dict:
    import comfy.utils

    seen, totals, calls = [], [], []

    def hook(value, total, preview, node_id=None):
        seen.append(value)
        totals.append(total)
        if cancel_at == value:
            runtime.mm.interrupt_current_processing(True)

    cancel_at = None
    comfy.utils.set_progress_bar_global_hook(hook)
    before = runtime.estimate(model, _image(2), _settings(), None)
    progress = list(seen)
    seen.clear()
    cancel_at = 4  # after the second of four calls
    error = _error_of(lambda: runtime.estimate(model, _image(2), _settings(num_steps=4), None))
    assert isinstance(error, runtime.mm.InterruptProcessingException), error
    calls = [value for value in seen if value]
    comfy.utils.set_progress_bar_global_hook(None)
    after = runtime.estimate(model, _image(2), _settings(), None)
    return {
        "progress": progress,
        "progress_total": totals[0],
        "calls_before_cancel": len(calls),
        "difference_after_cancel": (before.log_depth - after.log_depth).abs().max().item(),
    }


def _vae_facts(runtime, model, vae) -> dict:
    from types import SimpleNamespace

    import torch
    from a_pack.nodes.vae import VaeCodec

    attributes = dict(vars(vae))
    own, on_socket = (runtime.estimate(model, _image(), _settings(), choice) for choice in (None, vae))
    raw = VaeCodec(vae).decode(20 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)))
    wrong = _error_of(lambda: VaeCodec(SimpleNamespace(latent_channels=16, latent_dim=2, downscale_ratio=8)))
    return {
        "log_depth_range": (own.log_depth.max() - own.log_depth.min()).item(),
        "vae_difference": (own.log_depth - on_socket.log_depth).abs().max().item(),
        "vae_attributes_changed": [k for k, v in vars(vae).items() if attributes.get(k) is not v],
        "raw_decode_maximum": raw.abs().max().item(),
        "wrong_vae": str(wrong),
    }


def _folder_facts() -> dict:
    import folder_paths
    from a_pack.nodes import model_files

    table = folder_paths.folder_names_and_paths
    table["depthfm"] = (["/theirs"], {".theirs"})
    model_files.register_model_folder()
    model_files.register_model_folder()
    merged = table["depthfm"]
    files = {
        "depthfm": ["a.safetensors"],
        "checkpoints": ["a.safetensors", "DepthFM-v1.ckpt", "sd15.safetensors"],
        "diffusion_models": ["flux.safetensors"],
    }
    folder_paths.get_filename_list = lambda folder: files.get(folder, [])
    return {"merged_folder": [merged[0], sorted(merged[1])], "menu": model_files._origins()}


def _error_of(action) -> BaseException | None:
    try:
        action()
    except BaseException as error:  # noqa: BLE001 (whatever comes is what the test looks at)
        return error
    return None


if __name__ == "__main__":
    sys.argv, models = [sys.argv[0], "--cpu"], Path(sys.argv[1])
    import comfy.options

    comfy.options.enable_args_parsing()
    import torch

    with torch.inference_mode():
        print(json.dumps(_facts(models)))
