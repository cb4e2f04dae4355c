"""What an estimation refuses before it begins."""

from torch import Tensor

from .settings import EstimationSettings


def check_image(image: Tensor) -> None:
    if not isinstance(image, Tensor):
        raise ValueError(
            f"The image is a {type(image).__name__}; expected a tensor [B, 3, H, W] in [0, 1], as "
            "depth.files.read_image(path) gives for a file."
        )
    if image.ndim != 4 or image.shape[1] != 3 or image.numel() == 0:
        raise ValueError(f"The image has shape {list(image.shape)}; expected [B, 3, H, W], all at least 1.")
    if not image.is_floating_point():
        raise ValueError(f"The image holds {image.dtype}; expected floating point in [0, 1].")
    low, high = image.aminmax()
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN fails both
        raise ValueError(f"The image's values go from {low:.4g} to {high:.4g}; expected [0, 1] without NaN.")


def is_below_one_cell(resolution: int | None, multiple: int) -> bool:
    """Whether pictures of this short side would be padding for the most part; 0 and None choose no side."""
    return bool(resolution) and resolution < multiple


def check_settings(settings: EstimationSettings, multiple: int) -> None:
    """For a network whose picture has sides that are multiples of this."""
    if not isinstance(settings, EstimationSettings):  # their values were checked when they were made
        raise ValueError(f"The settings came as {type(settings).__name__}; expected EstimationSettings(...).")
    resolution = settings.processing_resolution
    if is_below_one_cell(resolution, multiple):
        raise ValueError(
            f"processing_resolution is {resolution} pixels, less than one cell of the network; choose at least "
            f"{multiple}, 0 for the image's own size, or leave it to the model (in ComfyUI: -1)."
        )


def check_noise(noise: Tensor, image_latent: Tensor) -> None:
    if not isinstance(noise, Tensor) or not noise.is_floating_point():
        kind = noise.dtype if isinstance(noise, Tensor) else type(noise).__name__
        raise ValueError(f"The noise came as {kind}; expected a tensor of floating point.")
    num_images, *latent = image_latent.shape
    before = list(noise.shape[:-3])  # [E] or [B, E]
    fits = list(noise.shape[-3:]) == latent and (len(before) == 1 or (len(before) == 2 and before[0] == num_images))
    if not fits or noise.numel() == 0:
        raise ValueError(
            f"The noise has shape {list(noise.shape)}; expected [E, {', '.join(map(str, latent))}] for E members, "
            f"or {num_images} of these, one for each image."
        )
    if not noise.isfinite().all():
        raise ValueError("The noise holds NaN or infinity; expected standard normal numbers.")
