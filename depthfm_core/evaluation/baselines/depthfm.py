"""DepthFM itself: the bundled model, the downloaded one, and checkpoints in any layout."""

from dataclasses import asdict

from torch import Tensor

from ...checks import check_settings
from ...loading import load_pipeline
from ...model.catalog import DOWNLOADS
from ...pipeline import DepthFMPipeline
from ...settings import EstimationSettings
from .method import Method, MethodCard, Request, counted_calls
from .sizes import told_size

_OF_NO_PICTURE_ALONE = ("noise_per_image", "members_at_once")  # settings that change no map of a single picture


def load_depthfm(request: Request) -> Method:
    """A DepthFM as a method; it gives log depth.

    Raises:
        ValueError: as `loading.load_pipeline`, and for settings that the model refuses.
    """
    options = request.options
    pipeline = load_pipeline(
        request.weights,
        options.vae,
        options.device,
        request.choice("dtype", "auto"),
        request.choice("attention", "plain"),
        request.choice("backend", "auto"),
        options.decoder,
    )
    settings = request.choice("settings", EstimationSettings())
    check_settings(settings, pipeline.multiple)

    def estimate(image: Tensor) -> tuple[Tensor, int, Tensor | None]:
        with counted_calls(pipeline.network) as calls:
            prediction = pipeline(image, settings)
        return prediction.log_depth, sum(calls), prediction.uncertainty if settings.ensemble_size > 1 else None

    made_with = _told_settings(pipeline, settings) | {"attention": request.choice("attention", "plain")}
    return request.method(estimate, **made_with, dtype=_dtype_name(pipeline), backend=_backend_name(pipeline))


def _told_settings(pipeline: DepthFMPipeline, settings: EstimationSettings) -> dict[str, object]:
    """Every setting that decides a map, the model's own value where none was chosen."""
    told = asdict(settings) | {"sharpen_edges": pipeline.sharpens(settings)}
    told["processing_resolution"] = told_size(settings.resolution(pipeline.processing_resolution))
    if settings.noising_step is None:
        told["noising_step"] = pipeline.noising_step
    return {name: value for name, value in told.items() if name not in _OF_NO_PICTURE_ALONE}


def _dtype_name(pipeline: DepthFMPipeline) -> str:
    """What the network computes in, a key of `model.precision.DTYPES`."""
    return str(pipeline.network.dtype).removeprefix("torch.")


def _backend_name(pipeline: DepthFMPipeline) -> str:
    """What the network runs on, one of `backends.choice.BACKENDS`."""
    from ...model.unet import DepthFMUNet  # which needs diffusers, and `METHODS` does not

    return "torch" if isinstance(pipeline.network, DepthFMUNet) else "openvino"


def _card(weights: str, fetch: str, licence: str, size: str, published: str = "") -> MethodCard:
    return MethodCard(
        load=load_depthfm,
        gives="log_depth",
        weights=weights,
        fetch=fetch,
        licence=licence,
        size=size,
        source="https://arxiv.org/abs/2403.13788",
        options=("settings", "vae", "attention", "dtype", "backend", "decoder"),
        published=published,
    )


DEPTHFM = {
    "nano": _card("nano", "it is part of this package", "MIT", "8.2 M + 2.4 M"),
    "depthfm-v1": _card(
        "depthfm-v1",
        "python -m depthfm_core download depthfm-v1",
        DOWNLOADS["depthfm-v1"].licence,
        "866 M + 84 M",
        "DepthFM (first version)",
    ),
    "depthfm": _card("", "name a checkpoint: depthfm=FILE or depthfm=FOLDER", "the checkpoint's own", "any"),
}
