"""Facts about frames that are brought to their pictures' size one by one; `comfyui_runtime_facts.py` answers with them.

Two frames of two members share a network call, after which the bar is at 4: what comes then is enlarging.
"""

from comfyui_process import error_of, settings


def edges_facts(model) -> dict:
    """Against the core, which takes both at once; and how far it comes when the user cancels after the first."""
    return {
        "frame_by_frame": [_against_both_at_once(model, sharpen) for sharpen in (True, False)],
        "enlarged": _enlarged(model, None),
        "enlarged_before_cancel": _enlarged(model, 5),
    }


def _frames():
    """Larger than what the network sees."""
    import torch

    return torch.rand(2, 3, 160, 180, generator=torch.Generator().manual_seed(0))


def _settings(sharpen: bool):
    return settings(num_steps=1, sharpen_edges=sharpen)


def _against_both_at_once(model, sharpen: bool) -> float:
    """The largest difference in any map."""
    from a_pack.depthfm_core.pipeline import DepthFMPipeline
    from a_pack.nodes import runtime

    pipeline = runtime._pipeline(model, None, int)
    one_by_one = pipeline(_frames(), _settings(sharpen))
    own = runtime.ManagedPipeline._at_pictures_size
    runtime.ManagedPipeline._at_pictures_size = DepthFMPipeline._at_pictures_size
    at_once = pipeline(_frames(), _settings(sharpen))
    runtime.ManagedPipeline._at_pictures_size = own
    pairs = [(values, vars(at_once)[name]) for name, values in vars(one_by_one).items()]
    return max((one - other).abs().max().item() for one, other in pairs)


def _enlarged(model, cancel_at: int | None) -> list:
    """How many frames were enlarged at a time, where the bar was, and how it ended; a cancel comes at a value."""
    import comfy.model_management as mm
    import comfy.utils
    from a_pack.depthfm_core.pipeline import DepthFMPipeline
    from a_pack.nodes.runtime import estimate

    enlarged, seen, real = [], [], DepthFMPipeline._at_pictures_size

    def recording(self, centre, *rest):
        enlarged.append(len(centre))
        return real(self, centre, *rest)

    def hook(value, _total, _preview, node_id=None):  # noqa: ARG001
        seen.append(value)
        if value == cancel_at:
            mm.interrupt_current_processing(True)

    DepthFMPipeline._at_pictures_size = recording
    comfy.utils.set_progress_bar_global_hook(hook)
    error = error_of(lambda: estimate(model, _frames(), _settings(True), None))
    comfy.utils.set_progress_bar_global_hook(None)
    DepthFMPipeline._at_pictures_size = real
    return [enlarged, seen, type(error).__name__]
