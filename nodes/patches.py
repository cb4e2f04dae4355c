"""What is patched into a DepthFM's MODEL on its way to the DepthFM Sampler, and what of that counts there.

What acts on the network counts: weights (LoRA), parts (torch.compile), attention and blocks, and the wrappers of
`APPLY_MODEL` and `DIFFUSION_MODEL`. What acts on ComfyUI's samplers does not, since none of them runs.
"""

import logging
import uuid

import comfy.model_patcher
from comfy.patcher_extension import WrappersMP, merge_nested_dicts
from torch import Tensor

from .model_sampling import DepthFMSampling

logger = logging.getLogger(__name__)

# Of `model_options`; core's samplers call them around the network.
_OF_THE_SAMPLERS = (
    "model_function_wrapper",
    "sampler_cfg_function",
    "sampler_pre_cfg_function",
    "sampler_post_cfg_function",
)
_OF_THE_NETWORK = (WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL)


def check_patches(patcher: comfy.model_patcher.ModelPatcher) -> None:
    """Says in the log which patches do not count.

    Raises:
        ValueError: for a model whose sampling is no longer that of DepthFM.
    """
    sampling = patcher.get_model_object("model_sampling")
    if not isinstance(sampling, DepthFMSampling):
        raise ValueError(
            f"A node replaced the model's sampling by {type(sampling).__name__}, but DepthFM knows its own path alone. "
            "Take out the node between Load DepthFM Model and this one that does so, such as ModelSamplingDiscrete."
        )
    left_out = [name for name in _OF_THE_SAMPLERS if name in patcher.model_options] + _wrappers_left_out(patcher)
    if left_out:
        logger.warning("The DepthFM Sampler leaves out what was patched in as %s.", ", ".join(left_out))


def _wrappers_left_out(patcher: comfy.model_patcher.ModelPatcher) -> list[str]:
    """The wrappers around parts of core's samplers, each with the name that its node goes by, if it gave one."""
    others = {kind: named for kind, named in patcher.wrappers.items() if kind not in _OF_THE_NETWORK}
    found = [(kind, name) for kind, named in others.items() for name, wrappers in named.items() if wrappers]
    return [kind if name is None else f"{kind} of {name}" for kind, name in found]


def transformer_options(patcher: comfy.model_patcher.ModelPatcher, sigma: Tensor) -> dict:
    """What core's sampler hands to a network: the patcher's patches and wrappers, and where on the path it is."""
    options = comfy.model_patcher.create_model_options_clone(patcher.model_options)["transformer_options"]
    merge_nested_dicts(options.setdefault("wrappers", {}), patcher.wrappers, copy_dict1=False)
    merge_nested_dicts(options.setdefault("callbacks", {}), patcher.callbacks, copy_dict1=False)
    return options | {"sigmas": sigma, "cond_or_uncond": [0], "uuids": [uuid.uuid4()]}
