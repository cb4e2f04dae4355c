"""DepthFM: monocular depth by flow matching, from image latent to depth latent.

`load_pipeline()` gives a pipeline; calling it with an image [B, 3, H, W] in [0, 1] gives a `DepthPrediction`. The names
below are imported when they are first used, since diffusers takes seconds to import and not every command needs it.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "CheckpointError": ".model.reading",
    "DepthFMPipeline": ".pipeline",
    "DepthPrediction": ".depth.prediction",
    "EstimationSettings": ".settings",
    "load_pipeline": ".loading",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
