"""How many members and frames are computed at once, for `comfyui_runtime_facts`."""

from comfyui_process import error_of, estimate_image, image, relative, settings


def memory_facts(model) -> dict:
    """How many members are tried where memory ends, and what a member is expected to need."""
    import torch
    from a_pack.nodes import runtime

    tried = []

    def pipeline_with_room_for(members, error=None):
        def run(_frames, chosen):
            tried.append(chosen.members_at_once)
            if chosen.members_at_once > members:
                raise error or runtime.mm.OOM_EXCEPTION("out of memory")
            return "depth"

        return run

    _, at_once = runtime._with_less_memory(pipeline_with_room_for(1), None, settings(members_at_once=5), int)
    first = list(tried)
    hopeless = error_of(
        lambda: runtime._with_less_memory(pipeline_with_room_for(0), None, settings(members_at_once=1), int)
    )
    tried.clear()
    runtime.mm.is_oom = lambda error: isinstance(error, RuntimeError)  # as newer versions judge; torch's OOM is one
    runtime._with_less_memory(pipeline_with_room_for(2), None, settings(members_at_once=4), int)
    newer = list(tried)
    del runtime.mm.is_oom
    tried.clear()
    on_a_mac = RuntimeError("MPS backend out of memory (MPS allocated: 8 GB). Tried to allocate 1 GB.")
    runtime._with_less_memory(pipeline_with_room_for(2, on_a_mac), None, settings(members_at_once=4), int)
    mac = list(tried)
    pipeline = runtime._pipeline(model, None, int)
    one, all_five = (pipeline(image(), settings(members_at_once=n, ensemble_size=5)) for n in (1, 5))
    in_half = model.clone()
    in_half.set_model_compute_dtype(torch.float16)
    return {
        "bytes_by_clone": [_one_pair(runtime._pipeline(patcher, None, int)) for patcher in (model, in_half)],
        "bytes_after_another_clone_ran": _bytes_after_another_ran(model, in_half),
        "members_tried": first,
        "members_tried_by_newer": newer,
        "members_tried_on_a_mac": mac,
        "members_that_had_room": at_once,
        "hopeless": type(hopeless).__name__,
        "difference_by_members_at_once": (one.log_depth - all_five.log_depth).abs().max().item(),
        "pairs_that_fit": _pairs_that_fit(pipeline),
        "pairs_beside_a_decode": int(pipeline.codec.decode_bytes(64, 80) / _one_pair(pipeline)),
    }


def _pairs_that_fit(pipeline) -> dict:
    """By free memory in units of what one pair needs."""
    from a_pack.nodes import runtime

    one = _one_pair(pipeline) / runtime.SHARE_OF_FREE_MEMORY
    free = {"nothing": 0, "three": 3.5 * one, "plenty": 1e15}
    real, fitting = runtime.mm.get_free_memory, {}
    decode_bytes = runtime.VaeCodec.decode_bytes
    for name, amount in free.items():
        runtime.mm.get_free_memory = lambda _device, amount=amount: amount
        fitting[name] = runtime._pairs_that_fit(pipeline, image(2), settings(ensemble_size=5))
    fitting["many frames"] = runtime._pairs_that_fit(pipeline, image(9), settings(ensemble_size=5))
    runtime.VaeCodec.decode_bytes = lambda *_args: 10**15
    fitting["large decoder"] = runtime._pairs_that_fit(pipeline, image(9), settings(ensemble_size=5))
    runtime.mm.get_free_memory, runtime.VaeCodec.decode_bytes = real, decode_bytes
    return fitting


def _one_pair(pipeline) -> int:
    """Bytes in the network; 64x72 px are padded to 64x80."""
    patcher = pipeline.network.patcher
    return patcher.model.memory_required_by(patcher, [1, 4, 8, 10])


def _bytes_after_another_ran(model, other) -> list:
    """What each needs while the model is set to what the other computes in."""
    import comfy.model_management
    from a_pack.nodes import runtime

    comfy.model_management.load_models_gpu([other])
    needed = [_one_pair(runtime._pipeline(patcher, None, int)) for patcher in (model, other)]
    comfy.model_management.load_models_gpu([model])
    return needed


def group_facts(model) -> dict:
    """How five frames are grouped, and that the grouping makes no difference, with either kind of noise."""
    from a_pack.nodes import runtime

    sizes, groups, velocity = [], [], runtime.ManagedNetwork.__call__
    frames, groups_of_frames, with_less_memory = [], [], runtime._with_less_memory

    def recording(self, x_t, t, image_latent):
        sizes.append(len(x_t))
        return velocity(self, x_t, t, image_latent)

    def of_frames(pipeline, group, *rest):
        frames.append(len(group))
        return with_less_memory(pipeline, group, *rest)

    runtime.ManagedNetwork.__call__, runtime._with_less_memory = recording, of_frames
    grouped = {}
    for own in (False, True):
        for frames_at_once in (0, 1, 2, 4096):
            changed = {"num_steps": 1, "noise_per_image": own}
            grouped[own, frames_at_once] = estimate_image(model, 5, None, frames_at_once, **changed).log_depth
            groups.append(list(sizes))
            groups_of_frames.append(list(frames))
            sizes.clear()
            frames.clear()
    runtime.ManagedNetwork.__call__, runtime._with_less_memory = velocity, with_less_memory
    return {
        "group_sizes": groups[:3],
        "frames_of_groups": [groups_of_frames[0], groups_of_frames[3]],
        "difference_by_group": max(relative(grouped[own, n], grouped[own, 0]) for own in (False, True) for n in (1, 2)),
        "difference_by_noise": relative(grouped[True, 0], grouped[False, 0]),
    }
