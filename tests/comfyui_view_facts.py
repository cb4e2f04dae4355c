"""Facts about the nodes that show and save depth, see `test_nodes_geometry.py`; run by `comfyui_process.ask`."""

import asyncio
import importlib
import inspect
import sys
from pathlib import Path

from comfyui_process import answer, error_of

SAMPLER = {"seed": 0, "num_steps": 1, "solver": "euler", "grid": "uniform", "ensemble_size": 1, "reduction": "mean"}
SAMPLER |= {"processing_resolution": 64, "noise": "shared", "frames_at_once": 0}


def facts(scratch: Path) -> dict:
    """Everything that the tests ask about."""
    without = _offered()
    advanced_here = _advanced()
    fake = scratch / "newer" / "comfy_extras"
    fake.mkdir(parents=True)
    (fake / "nodes_moge.py").write_text("", encoding="utf-8")
    sys.path.append(str(fake.parent))
    importlib.invalidate_caches()
    return {
        "comfyui_has_moge": (Path.cwd() / "comfy_extras" / "nodes_moge.py").exists(),
        "offered_without": "DepthFM_Geometry" in without,
        "offered_with": "DepthFM_Geometry" in _offered(),
        "advanced": {"here": advanced_here, "where_it_is_known": _advanced_where_it_is_known()},
        "imported": sorted(name for name in sys.modules if name.startswith("comfy_extras.")),
        **_geometry_facts(),
        "equal_depth": _equal_depth_in_two_files(scratch),
        "clips": _clips(scratch),
        "no_extent": _no_extent(scratch),
        **_save_facts(scratch),
    }


def _nodes() -> list:
    return asyncio.run(asyncio.run(sys.modules["a_pack"].comfy_entrypoint()).get_node_list())


def _offered() -> list[str]:
    return [node.GET_SCHEMA().node_id for node in _nodes()]


def _advanced() -> dict[str, list[str]]:
    """The inputs that each node tells the front end to fold away."""
    schemas = [node.GET_SCHEMA() for node in _nodes()]
    return {
        schema.node_id: [widget.id for widget in schema.inputs if widget.as_dict().get("advanced")]
        for schema in schemas
    }


def _advanced_where_it_is_known() -> dict[str, list[str]]:
    """The same in a ComfyUI whose inputs take `advanced`, as they do since its pull request 11939."""
    from comfy_api.latest import io

    kinds = [io.Combo, io.Int, io.Float]
    originals = [kind.Input for kind in kinds]
    for kind in kinds:
        kind.Input = _that_knows_advanced(kind.Input)
    found = _advanced()
    for kind, original in zip(kinds, originals, strict=True):
        kind.Input = original
    return found


def _that_knows_advanced(kind: type) -> type:
    class Input(kind):
        def __init__(self, *given, advanced=None, **options):
            super().__init__(*given, **options)
            self.advanced = advanced

        def as_dict(self):
            return super().as_dict() | ({} if self.advanced is None else {"advanced": self.advanced})

    return Input


def _prediction():
    import torch
    from a_pack.depthfm_core.depth.prediction import DepthPrediction

    log_depth = torch.rand(2, 1, 6, 9, generator=torch.Generator().manual_seed(0))
    return DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))


def _geometry_facts() -> dict:
    import torch
    from a_pack.depthfm_core.depth.geometry import da3_geometry, moge_geometry
    from a_pack.nodes.geometry import DepthToGeometry

    image = 1.2 * torch.rand(2, 6, 9, 3, generator=torch.Generator().manual_seed(1))  # as sharpening may leave it
    inputs = DepthToGeometry.GET_SCHEMA().inputs
    found = {
        "signature": (
            sorted(socket.id for socket in inputs),
            sorted(inspect.signature(DepthToGeometry.execute).parameters),
            [socket.tooltip for socket in inputs],
        ),
        "geometry": {},
    }
    for name, focal_px in (("field of view", 0.0), ("focal length", 20.0)):
        given = DepthToGeometry.execute(_prediction(), image, fov_deg=40.0, focal_px=focal_px).args
        camera = {"fov_deg": 40.0, "focal_px": focal_px or None}
        pixels = image.clamp(0, 1).permute(0, 3, 1, 2)
        wanted = [make(_prediction(), pixels, **camera) for make in (moge_geometry, da3_geometry)]
        outputs = [output.display_name for output in DepthToGeometry.GET_SCHEMA().outputs]
        found["geometry"][name] = dict(zip(outputs, map(_same, given, wanted), strict=True))
    found["wrong_image"] = str(error_of(lambda: DepthToGeometry.execute(_prediction(), image[:, 1:], 40.0, 0.0)))
    return found


def _same(one: dict, other: dict) -> bool:
    import torch

    return one.keys() == other.keys() and all(
        torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        for key, value in one.items()
    )


def _equal_depth_in_two_files(scratch: Path) -> dict:
    """The 16-bit values of two frames with different ranges, whose log depths are equal but for the first and last."""
    import folder_paths
    import numpy as np
    import torch
    from a_pack.depthfm_core.depth.prediction import DepthPrediction
    from a_pack.nodes.save import SaveDepth
    from PIL import Image

    folder_paths.set_output_directory(str(scratch))
    folder_paths.set_temp_directory(str(scratch / "temp"))
    log_depth = torch.linspace(-0.4, 0.3, 20).repeat(2, 1, 1, 1)
    log_depth[0, ..., 0], log_depth[1, ..., -1] = -1.0, 0.8
    prediction = DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))
    node, found = SaveDepth.PREPARE_CLASS_CLONE({}), {}
    for values in ("depth", "near white", "disparity"):
        for normalization in ("per image", "batch"):
            prefix = f"{normalization} {values}/x"
            node.execute(prediction, prefix, "png16", values, normalization)
            files = sorted((scratch / prefix).parent.iterdir())
            found[f"{values}, {normalization}"] = [np.array(Image.open(file))[0].tolist() for file in files]
    return found


def _clips(scratch: Path) -> dict:
    """Of two frames together and of each alone: whether the ControlNet image and the files of Save Depth are equal."""
    import torch
    from a_pack.depthfm_core.depth.controlnet import controlnet_image
    from a_pack.depthfm_core.depth.normalize import DisplayLimits, normalize_depth
    from a_pack.depthfm_core.depth.prediction import DepthPrediction

    whole = _prediction()
    clips = [DepthPrediction(*maps) for maps in zip(*(values.split(1) for values in whole.maps), strict=True)]
    near, far = 0.2, 0.9
    fixed = "fixed range", DisplayLimits(nearest=near, farthest=far)
    depth, grays = normalize_depth(whole, *fixed), controlnet_image(whole, *fixed)[:, :1]
    disparity = (near - whole.log_depth.clamp(near, far)).exp()
    core = {"grays": grays, "depth": depth, "near white": 1 - depth, "depth image": grays, "disparity": disparity}
    found = {}
    for view, expected in core.items():
        shown, alike = {}, {}
        for normalization in ("batch", "fixed range"):
            shown[normalization] = _shown(scratch, view, whole, normalization, near, far)
            alone = [_shown(scratch, view, clip, normalization, near, far) for clip in clips]
            alike[normalization] = torch.equal(shown[normalization], torch.cat(alone))
        found[view] = {
            "fixed range is the core's": (shown["fixed range"] - expected).abs().max().item(),
            "clips are as in the whole": alike,
        }
    return found


def _shown(scratch: Path, view: str, depth, normalization: str, nearest: float, farthest: float):
    """The ControlNet image, or what Save Depth writes with 16 bits: [B, 1, H, W] in [0, 1]."""
    import folder_paths
    import numpy as np
    import torch
    from a_pack.nodes.controlnet import DepthToControlNetImage
    from PIL import Image

    if view == "grays":
        image = DepthToControlNetImage.execute(depth, 2.0, 98.0, normalization, 1, "pad", nearest, farthest).args[0]
        return image.permute(0, 3, 1, 2)[:, :1]
    _save(scratch, depth, "clips/x", "png16", view, normalization, nearest, farthest)
    files = sorted(Path(folder_paths.get_output_directory(), "clips").iterdir())[-len(depth.depth) :]
    return torch.from_numpy(np.stack([np.array(Image.open(file)) for file in files]) / 65535)[:, None]


def _save(scratch: Path, *inputs: object) -> None:
    import folder_paths
    from a_pack.nodes.save import SaveDepth

    folder_paths.set_output_directory(str(scratch))
    folder_paths.set_temp_directory(str(scratch / "temp"))
    SaveDepth.PREPARE_CLASS_CLONE({}).execute(*inputs)


def _no_extent(scratch: Path) -> dict:
    def save(folder: str, values: str, normalization: str) -> str:
        inputs = (_prediction(), f"{folder}/x", "npy", values, normalization, 0.5, 0.5)
        return str(error_of(lambda: _save(scratch, *inputs)))

    bounded = ("depth", "near white", "depth image", "disparity")
    unused = [save("unused", "log depth", "fixed range"), save("unused", "depth", "per image")]
    return {
        "refused": {values: save("no_extent", values, "fixed range") for values in bounded},
        "files": [path.name for path in scratch.glob("no_extent/*")],
        "where it is not used": unused.count("None"),
    }


def _save_facts(scratch: Path) -> dict:
    import folder_paths
    from a_pack.nodes.sample import DepthFMSampler
    from a_pack.nodes.save import SaveDepth
    from comfy.cli_args import args
    from PIL import Image

    folder_paths.set_output_directory(str(scratch))
    folder_paths.set_temp_directory(str(scratch / "temp"))
    node = SaveDepth.PREPARE_CLASS_CLONE({"PROMPT": {"a": 1}, "EXTRA_PNGINFO": {"workflow": [2]}})
    texts, depth = {}, _prediction()
    handed_on = node.execute(depth, "handed_on", "npy", "log depth").args
    for name, disabled in (("usual", False), ("disable_metadata", True)):
        args.disable_metadata = disabled
        node.execute(_prediction(), name, "png16", "depth")
        with Image.open(scratch / f"{name}_00001_.png") as file:
            texts[name] = file.text
    linked = {
        "passes before the run": SaveDepth.validate_inputs(format=None, values="log depth") is True,
        "colon": str(error_of(lambda: node.execute(_prediction(), "a:b", "npy", "depth"))),
        "noise": str(error_of(lambda: DepthFMSampler.execute(None, None, **(SAMPLER | {"noise": "per_frame"})))),
        "at the run": str(error_of(lambda: node.execute(_prediction(), "linked", "png16", "log depth"))),
    }
    args.disable_metadata, sys.modules["OpenEXR"] = False, None
    for format in ("exr", "npy"):
        node.execute(_prediction(), f"pyav/{format}", format, "log depth")
    sys.modules["av"] = None
    no_exr = str(error_of(lambda: node.execute(_prediction(), "no_exr/x", "exr", "depth")))
    return {
        "texts": texts,
        "linked": linked,
        "handed_on": len(handed_on) == 1 and handed_on[0] is depth,
        "no_exr": [no_exr, [path.name for path in scratch.glob("no_exr*")]],
        "dates": _dates(),
        "widgets": _widgets(),
    }


def _dates() -> dict:
    from datetime import datetime

    from a_pack.nodes.save import _dated

    prefixes = ("%date:yyyy-MM-dd%/x", "%date:yy.M.d%_%date:hhmmss%", "%date:h-m-s%", "%date:y MMM%")
    prefixes += ("%year%_%width%", "100% %date:yyyy%")
    return {prefix: _dated(prefix, datetime(2026, 3, 4, 5, 6, 7)) for prefix in prefixes}


def _widgets() -> dict:
    from a_pack.nodes.save_prefix import with_widgets

    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a/b:c?.png [input]"}, "_meta": {"title": "Photo: one"}},
        "2": {
            "class_type": "KSampler",
            "inputs": {"seed": 1, "cfg": 1.5, "model": ["1", 0]},
            "_meta": {"title": "Two"},
        },
        "3": {"class_type": "KSampler", "inputs": {"seed": 3}, "_meta": {"title": "KSampler"}},
        "4": {"class_type": "DepthFM_Sampler", "inputs": {"seed": 0}},
    }
    prefixes = ("%DepthFM_Sampler.seed%", "x/%Two.seed%_%Two.cfg%", "%KSampler.seed%", "%Photo: one.image%")
    prefixes += ("%Two.model%", "%Two.steps%", "%Three.seed%", "%date:yy.MM%", "50% of %Two.seed%", "%Two.seed")
    return {prefix: [with_widgets(prefix, graph) for graph in (prompt, None)] for prefix in prefixes}


if __name__ == "__main__":
    answer(facts)
