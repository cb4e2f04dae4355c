"""Methods that the library `transformers` keeps: DPT, Depth Anything 1 and 2, ZoeDepth, Depth Pro.

Sizes and normalization are those of each model's own preprocessor file. For DPT that is a square, whatever the
picture's shape, and the library's network takes nothing else; `midas-dpt-large` is the same model with the aspect kept.
"""

import torch
from torch import Tensor

from ...optional import import_optional
from .method import DTYPE, INSTALL, NEEDS, Method, MethodCard, Request, in_float32

# The first fusion layer has no second input, so this part of it exists in the library's class and in no checkpoint.
_NEVER_USED = "fusion_stage.layers.0.residual_layer1."


def _of_depth_anything(config: object) -> str:
    return "depth_m" if config.depth_estimation_type == "metric" else "disparity"


# Model type in a checkpoint's config -> what the network gives.
MODEL_TYPES = {
    "dpt": lambda _config: "disparity",
    "depth_anything": _of_depth_anything,
    "zoedepth": lambda _config: "depth_m",
    "depth_pro": lambda _config: "depth_m",
}


def load_hugging_face(request: Request) -> Method:
    """A depth model from a folder or from the local cache of the Hugging Face hub.

    Raises:
        ValueError: without the library, without the weights, for weights that leave a part of the network untrained,
            or for a model type that is not in `MODEL_TYPES`.
    """
    transformers = import_optional("transformers", request.name, INSTALL)
    where = {"pretrained_model_name_or_path": request.weights, "local_files_only": True}
    with request.complaining():
        config = transformers.AutoConfig.from_pretrained(**where)
        if config.model_type not in MODEL_TYPES:
            raise ValueError(f"{request.weights} is a {config.model_type}; this loader knows {', '.join(MODEL_TYPES)}.")
        processor = transformers.AutoImageProcessor.from_pretrained(**where)
        model, report = transformers.AutoModelForDepthEstimation.from_pretrained(**where, output_loading_info=True)
    missing = sorted(name for name in report["missing_keys"] if _NEVER_USED not in name)
    if missing:
        raise ValueError(f"{request.weights} lacks {len(missing)} tensors of the network, for example {missing[0]}.")
    model = in_float32(model, request.options.device)
    return request.method(
        lambda image: _estimate(processor, model, image),
        gives=MODEL_TYPES[config.model_type](config),
        size=f"{processor.size['height']} x {processor.size['width']}",
        dtype=DTYPE,
    )


def _estimate(processor: object, model: torch.nn.Module, image: Tensor) -> tuple[Tensor, int]:
    pixels = (image[0] * 255).round().byte()
    inputs = processor(images=pixels, return_tensors="pt", input_data_format="channels_first")
    inputs = inputs["pixel_values"].to(model.device)
    outputs = model(pixel_values=inputs)
    size = {"target_sizes": [tuple(image.shape[-2:])]}
    num_calls = 1
    if model.config.model_type == "zoedepth":
        # Its authors' `infer` averages a picture and its mirror image.
        size |= {"source_sizes": size["target_sizes"], "outputs_flipped": model(pixel_values=inputs.flip(-1))}
        num_calls = 2
    return processor.post_process_depth_estimation(outputs, **size)[0]["predicted_depth"], num_calls


def _card(weights: str, gives: str, licence: str, size: str, source: str, published: str = "") -> MethodCard:
    fetch = f"hf download {weights}" if weights else "name a model: transformers=FOLDER or transformers=OWNER/NAME"
    return MethodCard(load_hugging_face, gives, weights, fetch, licence, size, source, published=published, needs=NEEDS)


_ANYTHING_1 = "https://huggingface.co/docs/transformers/model_doc/depth_anything"
_ANYTHING_2 = "https://huggingface.co/docs/transformers/model_doc/depth_anything_v2"
_BY_NC = "CC BY-NC 4.0"
_METRIC = "none stated on its card; the .pth card Apache-2.0, base weights CC BY-NC 4.0"
HUGGING_FACE = {
    "dpt-large": _card(
        "Intel/dpt-large", "disparity", "Apache-2.0", "1.37 GB", "https://arxiv.org/abs/2103.13413", "DPT"
    ),
    "dpt-hybrid": _card(
        "Intel/dpt-hybrid-midas", "disparity", "Apache-2.0", "490 MB", "https://arxiv.org/abs/2103.13413"
    ),
    "depth-anything-small": _card(
        "LiheYoung/depth-anything-small-hf", "disparity", "Apache-2.0", "24.8 M", _ANYTHING_1
    ),
    "depth-anything": _card(
        "LiheYoung/depth-anything-large-hf", "disparity", "Apache-2.0", "335 M", _ANYTHING_1, "Depth Anything"
    ),
    "depth-anything-v2-small": _card(
        "depth-anything/Depth-Anything-V2-Small-hf", "disparity", "Apache-2.0", "24.8 M", _ANYTHING_2
    ),
    "depth-anything-v2": _card(
        "depth-anything/Depth-Anything-V2-Large-hf", "disparity", _BY_NC, "335 M", _ANYTHING_2, "Depth Anything v2"
    ),
    "depth-anything-v2-indoor": _card(
        "depth-anything/Depth-Anything-V2-Metric-Indoor-Large-hf", "depth_m", _METRIC, "335 M", _ANYTHING_2
    ),
    "depth-anything-v2-outdoor": _card(
        "depth-anything/Depth-Anything-V2-Metric-Outdoor-Large-hf", "depth_m", _METRIC, "335 M", _ANYTHING_2
    ),
    "zoedepth": _card("Intel/zoedepth-nyu-kitti", "depth_m", "MIT", "1.38 GB", "https://arxiv.org/abs/2302.12288"),
    "depth-pro": _card(
        "apple/DepthPro-hf", "depth_m", "Apple's own", "three ViT-L", "https://arxiv.org/abs/2410.02073"
    ),
    "transformers": _card("", "disparity", "the model's own", "any", "the model's card"),
}
