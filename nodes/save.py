"""The node that saves depth with more than 8 bits.

The names are those of ComfyUI's Save Image, with three differences: a name that exists is never taken, also where a
placeholder in the prefix keeps ComfyUI from counting; an empty one is filled in; and %date:FORMAT% and %NODE.WIDGET%
are resolved here, since the front end does so for ComfyUI's own nodes only.
"""

import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import folder_paths
import torch
from comfy.cli_args import args
from comfy_api.latest import io, ui
from torch import Tensor

from ..depthfm_core.depth.files import write_exr, write_npy, write_png16
from ..depthfm_core.depth.normalize import DisplayLimits
from ..depthfm_core.depth.prediction import DepthPrediction, over_own_range
from ..depthfm_core.replacing import write_text
from .convert import image_to_comfy
from .exr import exr_refusal, has_openexr, write_exr_by_pyav
from .frames import frames_of
from .save_prefix import with_widgets
from .save_values import NORMALIZATIONS, PER_IMAGE, UNBOUNDED, VALUES, values_of_frames
from .sockets import CATEGORY, DepthType, schema
from .widgets import LIMITS, Menus, depth_input, fixed_range_inputs, unknown_choice, validated

Metadata = dict[str, str]
NAME = "DepthFM"  # of a file, before its number


class Format(NamedTuple):
    """A kind of file: the ending of its name, its writer, and whether it holds values outside of [0, 1]."""

    ending: str
    write: Callable[[Path, Tensor, Metadata], None]
    any_values: bool


def _write_exr(path: Path, values: Tensor, metadata: Metadata) -> None:
    """Only ComfyUI's own two texts: another's name might be one that OpenEXR uses itself."""
    if has_openexr():
        write_exr(path, values, {name: metadata[name] for name in ("prompt", "workflow") if name in metadata})
    else:
        write_exr_by_pyav(path, values)
        _write_graph_beside(path, metadata)


def _write_npy(path: Path, values: Tensor, metadata: Metadata) -> None:
    write_npy(path, values)
    _write_graph_beside(path, metadata)


def _write_graph_beside(path: Path, metadata: Metadata) -> None:
    """The graph as a file that ComfyUI can open."""
    graph = metadata.get("workflow", metadata.get("prompt"))
    if graph is not None:
        write_text(path.with_suffix(".json"), graph)


FORMATS = {
    "png16": Format(".png", write_png16, any_values=False),
    "exr": Format(".exr", _write_exr, any_values=True),
    "npy": Format(".npy", _write_npy, any_values=True),
}
_ENDINGS = (*(kind.ending for kind in FORMATS.values()), ".json")

_DATE_TOKEN = re.compile("dd?|MM?|hh?|mm?|ss?|yyyy|yy")
_DATE = re.compile("%date:([^%]+)%")


class SaveDepth(io.ComfyNode):
    """DEPTHFM_DEPTH to files in ComfyUI's output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the front end shows."""
        return schema(
            node_id="DepthFM_Save",
            display_name="Save Depth (DepthFM)",
            category=CATEGORY,
            description="Saves depth with 16 or 32 bits in ComfyUI's output folder, a file a frame, with the workflow.",
            search_aliases=["save depth", "16 bit", "exr", "npy", "export depth", "depthfm"],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                depth_input(),
                io.String.Input(
                    "filename_prefix",
                    default=f"depth/{NAME}",
                    tooltip="Where in the output folder, and how the names begin. %date:yyyy-MM-dd%, or %year%, "
                    "%month%, %day%, %hour%, %minute% and %second%, become the time, %width% and %height% the size. "
                    "%DepthFM_Sampler.seed% (a node's title or type, a dot, a widget) becomes its value; an unknown "
                    "one stays as it is. No file is ever replaced.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="png16",
                    tooltip="'png16': 65536 grays; dropped onto ComfyUI it restores the graph. 'exr': 32-bit floats, "
                    "for compositing. 'npy': 32-bit floats for Python. The workflow lies in a .json beside 'npy', and "
                    "beside 'exr' where the package OpenEXR is missing.",
                ),
                io.Combo.Input(
                    "values",
                    options=list(VALUES),
                    default="depth image",
                    tooltip="'depth image': near = white, as the DepthFM Sampler's picture, also for ControlNet. "
                    "'depth': 0 = nearest, 1 = farthest point, so near = black. 'near white': 1 - depth. 'disparity': "
                    "inverse depth, 1 = nearest point, so near = white. 'log depth': as the network gave it, about -1 "
                    "to 1, for 'exr' and 'npy' only.",
                ),
                io.Combo.Input(
                    "normalization",
                    options=list(NORMALIZATIONS),
                    default=PER_IMAGE,
                    optional=True,  # graphs were saved before it came
                    tooltip="Whose nearest and farthest point: those of each image ('per image'), or of the whole "
                    "'batch', so that equal depth is equal in all files of a video. 'fixed range': 'nearest' and "
                    "'farthest', so that it is in all clips of a cut video too. No effect on 'log depth'.",
                ),
                *fixed_range_inputs("counts as the nearest point", "counts as the farthest point", optional=True),
            ],
            outputs=[DepthType.Output(display_name="depth data", tooltip="What came in, unchanged.")],
        )

    @classmethod
    def validate_inputs(
        cls, format: str | None = None, values: str | None = None, normalization: str | None = None
    ) -> bool | str:
        """True, or what the menu offers instead."""
        return validated(_menus(format, values, normalization))

    @classmethod
    def execute(
        cls,
        depth: DepthPrediction,
        filename_prefix: str,
        format: str,
        values: str,
        normalization: str = PER_IMAGE,
        nearest: float = LIMITS.nearest,
        farthest: float = LIMITS.farthest,
    ) -> io.NodeOutput:
        """Saves frame after frame, and shows with 8 bits what is in the files: ComfyUI shows 16 bits as white.

        Raises:
            Exception: by ComfyUI, for a prefix that leads out of its output folder.
            ValueError, OutputError: for a refused input, or by the writer.
        """
        prefix = with_widgets(filename_prefix, cls.hidden.prompt)
        if refusal := _refusal(prefix, format, values, normalization):
            raise ValueError(refusal)
        kind, metadata = FORMATS[format], _metadata(cls.hidden)
        values_of = values_of_frames(depth, values, normalization, DisplayLimits(nearest=nearest, farthest=farthest))
        on_one_scale = normalization != PER_IMAGE and values != UNBOUNDED
        files = _files(prefix, depth.log_depth.shape, kind.ending)
        saved, pictures = [], []
        for frame, (path, subfolder) in zip(frames_of(depth), files, strict=False):  # the files have no end
            maps = values_of(frame)
            kind.write(path, maps[0, 0], metadata)
            saved.append({"filename": path.name, "subfolder": subfolder, "type": "output"})
            preview = _gray(maps if on_one_scale else over_own_range(maps))
            pictures += ui.PreviewImage(preview, cls=cls).as_dict()["images"]
        return io.NodeOutput(depth, ui={"images": pictures, "files": saved})


def _menus(format: str | None, values: str | None, normalization: str | None) -> Menus:
    return {
        "format": (format, FORMATS),
        "values": (values, VALUES),
        "normalization": (normalization, NORMALIZATIONS),
    }


def _refusal(prefix: str, format: str, values: str, normalization: str) -> str | None:
    """Why this cannot be saved."""
    if unknown := unknown_choice(_menus(format, values, normalization)):
        return unknown
    if values == UNBOUNDED and not FORMATS[format].any_values:
        return (
            f"{format} stores 0 to 1 only, but 'log depth' goes beyond; choose the format exr or npy, or other values."
        )
    if format == "exr" and (refusal := exr_refusal()):
        return refusal
    if ":" in _dated(prefix, datetime.now()):
        return (
            f"filename_prefix is {prefix!r}, but names on Windows hold no ':'; leave it out. Of the placeholders with "
            "a ':' only %date:FORMAT% is known, for example %date:yyyy-MM-dd_hh-mm-ss%."
        )
    return None


def _dated(prefix: str, now: datetime) -> str:
    """The prefix with %date:FORMAT% resolved; source: `formatDate` of ComfyUI_frontend."""
    numbers = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def written(token: re.Match) -> str:
        letters = token.group()
        return str(now.year)[-len(letters) :] if "y" in letters else f"{numbers[letters[0]]:0{len(letters)}}"

    return _DATE.sub(lambda date: _DATE_TOKEN.sub(written, date.group(1)), prefix)


def _with_a_name(prefix: str) -> str:
    """The prefix, or one of this name where it has none: ComfyUI would begin the file's with a dot, which hides it."""
    folder, name = os.path.split(os.path.normpath(prefix))
    return prefix if name.strip(" .") else os.path.join(folder, NAME)


def _files(prefix: str, shape: torch.Size, ending: str) -> Iterator[tuple[Path, str]]:
    """Where frame after frame of a batch [B, 1, H, W] goes, and the subfolder as the front end wants to hear it."""
    height, width = shape[2:]
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        _with_a_name(_dated(prefix, datetime.now())), folder_paths.get_output_directory(), width, height
    )
    for frame in itertools.count():
        stem = _free_stem(Path(folder), name.replace("%batch_num%", str(frame)), counter + frame)
        yield Path(folder, f"{stem}{ending}"), subfolder


def _free_stem(folder: Path, name: str, counter: int) -> str:
    """The first name from this number on that no file of ours has, whatever its ending."""
    stems = (f"{name}_{number:05}_" for number in itertools.count(counter))
    return next(stem for stem in stems if not any((folder / f"{stem}{ending}").exists() for ending in _ENDINGS))


def _metadata(hidden: io.HiddenHolder) -> Metadata:
    """What ComfyUI's Save Image would write beside the pixels: the graph in both of its forms, as JSON."""
    if args.disable_metadata:
        return {}
    prompt = {} if hidden.prompt is None else {"prompt": hidden.prompt}
    return {name: json.dumps(value) for name, value in {**prompt, **(hidden.extra_pnginfo or {})}.items()}


def _gray(grays: Tensor) -> Tensor:
    """Gray IMAGE [B, H, W, 3] of [B, 1, H, W] in [0, 1]."""
    return image_to_comfy(grays.expand(-1, 3, -1, -1))
