"""What a training hands on: the one file that ships (velocity network, constant in place of text, autoencoder), and an
autoencoder by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..model.checkpoints import DepthFMCheckpoint, load_checkpoint, save_checkpoint
from ..model.codec import LatentCodec
from ..model.codec_parts import codec_config, codec_tensors
from ..model.names import diffusers_to_ldm
from ..model.reading import CheckpointError
from ..model.unet import DepthFMUNet
from ..model.writing import save_tensors
from ..replacing import write_json
from ..resize import MAX_SIDE_PX, fit
from .augment import ViewSettings


@dataclass(frozen=True)
class ExportSettings:
    """How the exported model is to be used.

    Attributes:
        processing_resolution: the short side in pixels that it will see, to whole cells of the network; 0 = that of the
            views it learned from. More can be better (docs/nano.md, "Resolution").

    Raises:
        ValueError: for a resolution that no picture has.
    """

    processing_resolution: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.processing_resolution <= MAX_SIDE_PX:
            raise ValueError(
                f"processing_resolution is {self.processing_resolution}; choose up to {MAX_SIDE_PX} pixels, or 0 for "
                "the short side of the views."
            )

    def view(self, learned: ViewSettings, multiple: int) -> ViewSettings:
        """The view that the exported model has of a frame.

        Args:
            learned: the view it learned from, whose aspect this one has but for the rounding.
            multiple: as of `resize.fit`.
        """
        if not self.processing_resolution:
            return learned
        frame = torch.empty(1, 3, learned.height_px, learned.width_px, device="meta")
        height, width = fit(frame, self.processing_resolution, multiple)[0].shape[-2:]
        return replace(learned, height_px=height, width_px=width)


def export(
    network: DepthFMUNet,
    codec: LatentCodec,
    noising_step: int,
    resolution: int,
    spread_scale: float,
    path: Path,
    training: Mapping | None = None,
) -> None:
    """Writes our checkpoint layout in half precision.

    Args:
        network: as trained, with the text's projections still in place.
        codec: bundled; a small autoencoder's skipped blocks are written as zeros, so the file is a standard TAESD.
        noising_step: how noisy the source is, of 1000.
        resolution: the short side in pixels that the model is to see.
        spread_scale: what makes an ensemble's spread the expected error.
        path: ends in .safetensors.
        training: what made it, as `record.provenance` says it; and the "network", which file of weights it was, or the
            "step" of a training that is not done.

    Raises:
        ValueError: for another suffix.
        OSError: when the disk refuses.
    """
    checkpoint = DepthFMCheckpoint(
        path=path,
        state_dict=diffusers_to_ldm(network.unet.state_dict(), network.hyper),
        hyper=network.hyper,
        null_text=network.null_text,
        noising_step=noising_step,
        processing_resolution=resolution,
        spread_scale=spread_scale,
        parameterization=network.parameterization,
        codec_tensors=codec_tensors(codec),
        codec_config=codec_config(codec),
        training=training,
    )
    save_checkpoint(checkpoint, path)


def is_exported(path: Path, training: Mapping) -> bool:
    """Whether a file that can be read says that the same made it, whatever version of this project wrote it.

    Args:
        path: of the file, or of none.
        training: as of `export`; of two networks it differs.
    """
    if not path.exists():
        return False
    try:
        made_by = load_checkpoint(path).training or {}
    except CheckpointError:  # cut short, or of another kind
        return False
    return {**made_by, "version": ""} == {**training, "version": ""}


def save_codec(codec: LatentCodec, folder: Path) -> None:
    """Writes a diffusers folder; a small autoencoder's skipped blocks are written as zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(codec_tensors(codec), folder / "diffusion_pytorch_model.safetensors")
    # The configuration is last: with it the folder is an autoencoder.
    write_json(folder / "config.json", codec_config(codec))
