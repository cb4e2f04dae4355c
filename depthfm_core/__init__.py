"""DepthFM: monocular depth by flow matching, from image latent to depth latent.

`load_pipeline()` gives a pipeline; calling it with an image [B, 3, H, W] in [0, 1] gives a `DepthPrediction`.
"""

from .depth.prediction import DepthPrediction
from .model.reading import CheckpointError
from .pipeline import DepthFMPipeline, EstimationSettings, load_pipeline

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "DepthFMPipeline",
    "DepthPrediction",
    "EstimationSettings",
    "__version__",
    "load_pipeline",
]
