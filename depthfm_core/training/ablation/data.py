"""The data of the ablations: rendered scenes, pictures of other scenes as another camera has them, and their latents.

OUTPUT/frames/labeled     rendered pictures with their true depth, which every arm trains on
OUTPUT/frames/teacher     scenes for the teacher, which sees them as photographs
OUTPUT/frames/scenes      scenes that are photographed without their depth
OUTPUT/frames/photos      these photographs with the teacher's depth
OUTPUT/frames/held_out    scenes that every arm is measured on, as rendered and as photographs
OUTPUT/latents/NAME       of the frames above
OUTPUT/autoencoder        nano's, which is good at pictures and depth of this size

A photograph here is a rendered picture with changed colors, noise, blur and compression. So what pseudo-labels bring in
the paper they can bring here: pictures of the kind that is measured on, with labels by a network that knows that kind.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ...data.folder import list_frames, read_frame, write_frame
from ...data.sample import DepthSample
from ...loading import load_pipeline
from ...model.codec import LatentCodec, load_codec
from ..augment import PhotometricSettings, ViewSettings, change_photometry
from ..export import save_codec
from ..latents import LatentSet, LatentSettings
from ..precompute import write_latents
from ..sources import Frame, folder_frames
from ..target import NormalizationSettings
from ..validation import HeldOut, encode_held_out
from .arms import SEEDS_A_KIND, AblationSettings, Arm
from .networks import Teacher

AS_RENDERED = PhotometricSettings(
    probability=0.0,
    exposure_stops=0.0,
    gamma=1.0,
    contrast=0.0,
    white_balance=0.0,
    saturation=0.0,
    hue_deg=0.0,
    grey_probability=0.0,
    border_probability=0.0,
)
AS_PHOTOGRAPH = PhotometricSettings()
_FIRST_SEEDS = {kind: SEEDS_A_KIND * i for i, kind in enumerate(("labeled", "teacher", "scenes", "held_out"))}
_TENTH, _REST = "photos_tenth", "photos_rest"
DOMAINS = ("rendered", "photograph")


def render(settings: AblationSettings, output: Path, workers: int) -> None:
    """Renders all scenes that are not there yet.

    Raises:
        ImportError: when the generator's libraries are missing.
    """
    from ...data.synthetic import write_frames  # needs the optional libraries of the "train" extra

    for name, first in _FIRST_SEEDS.items():
        count = settings.held_out if name == "held_out" else settings.frames
        seeds, size = range(first, first + count), (settings.height_px, settings.width_px)
        frames = write_frames(output / "frames" / name, seeds, size, workers=workers)
        for _ in tqdm(frames, total=count, desc=f"frames {name}", unit="frame"):
            pass


def write_codec(output: Path) -> None:
    """Writes nano's autoencoder as a folder of its own, unless it is there."""
    if not (output / "autoencoder" / "config.json").exists():
        codec = load_pipeline("nano").codec
        save_codec(codec, output / "autoencoder")


def read_codec(output: Path) -> LatentCodec:
    """The autoencoder of all latents."""
    return load_codec(output / "autoencoder")


def write_scene_latents(settings: AblationSettings, output: Path) -> None:
    """The latents that need no teacher: the labeled frames with log and with linear depth, and the teacher's."""
    labeled = folder_frames(output / "frames" / "labeled", "labeled")
    _write(settings, output, "labeled", labeled)
    _write(settings, output, "labeled_linear", labeled, space="linear")
    _write(settings, output, "teacher", folder_frames(output / "frames" / "teacher", "teacher"), AS_PHOTOGRAPH)


def label_photographs(teacher: Teacher, output: Path) -> None:
    """Photographs each scene without depth and writes the picture with the teacher's depth."""
    folder = output / "frames" / "photos"
    folder.mkdir(parents=True, exist_ok=True)
    done = {frame.name for frame in list_frames([folder])}
    for scene in tqdm(list_frames([output / "frames" / "scenes"]), desc="pseudo-labels", unit="frame"):
        if scene.name not in done:
            picture = as_photograph(read_frame(scene), scene.name)
            everywhere = torch.ones_like(picture.valid)
            write_frame(folder / scene.name, replace(picture, depth_m=teacher(picture.image), valid=everywhere))


def write_photograph_latents(settings: AblationSettings, output: Path) -> None:
    """The latents of the pseudo-labeled photographs: of a tenth of them, and of the rest."""
    frames = folder_frames(output / "frames" / "photos", "photos")
    tenth = len(frames) // 10
    for name, part in ((_TENTH, frames[:tenth]), (_REST, frames[tenth:])):
        _write(settings, output, name, part)


def teacher_latents(output: Path) -> LatentSet:
    """What the teacher trains on."""
    return LatentSet([output / "latents" / "teacher"])


def latents_of(arm: Arm, output: Path) -> LatentSet:
    """What an arm trains on; the more pseudo-labels, the more of its batches are of them."""
    names = ["labeled" if arm.space == "log" else "labeled_linear"]
    if arm.pseudo_share > 0:
        names.append(_TENTH)
    if arm.pseudo_share == 1:
        names.append(_REST)
    return LatentSet([output / "latents" / name for name in names])


def held_out(settings: AblationSettings, output: Path, codec: LatentCodec) -> dict[str, HeldOut]:
    """The held-out scenes in each of `DOMAINS`."""
    view = ViewSettings(settings.height_px, settings.width_px)
    frames = folder_frames(output / "frames" / "held_out", "held_out")
    photographed = [frame._replace(read=partial(_read_photograph, frame)) for frame in frames]
    parts = zip(DOMAINS, (frames, photographed), strict=True)
    return {domain: encode_held_out(part, view, codec) for domain, part in parts}


def as_photograph(sample: DepthSample, name: str) -> DepthSample:
    """The sample with the picture as another camera has it, the same for a name."""
    rng = np.random.default_rng([*name.encode()])
    return replace(sample, image=change_photometry(sample.image, AS_PHOTOGRAPH, rng))


def _read_photograph(frame: Frame) -> DepthSample:
    return as_photograph(frame.read(), frame.name)


def _write(
    settings: AblationSettings,
    output: Path,
    name: str,
    frames: Sequence[Frame],
    photometry: PhotometricSettings = AS_RENDERED,
    space: str = "log",
) -> None:
    view = ViewSettings(settings.height_px, settings.width_px)
    latents = LatentSettings(view=view, views_per_frame=settings.views_per_frame)
    normalization = NormalizationSettings(space=space)
    write_latents(frames, latents, photometry, normalization, output / "autoencoder", output / "latents" / name)
