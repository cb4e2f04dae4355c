"""Makes the thumbnails in `workflows/` and the picture of a graph in `docs/` again: `python -m tests.screenshots`.

Everything is taken from the real front end on a real ComfyUI (see `comfyui_server` and `browser`). A thumbnail shows
the pack's example picture and what the workflow makes of it with nano: of the workflows for ControlNets their input,
and of the one for the authors' model, which cannot run without its files, the graph.
"""

import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw

from .browser import FrontEnd, front_end, write_settings
from .comfyui_server import PACK, ComfyUI
from .workflows import FOLDER, NAMES, read_workflow, write_inputs

SIDE_PX = 400
SCREENSHOT = PACK / "docs" / "workflow.jpg"
SCREENSHOT_OF = "depth_and_color"
# The title of the node whose output a thumbnail shows; None for the graph itself.
SHOWN = {
    "controlnet_sd15": "ControlNet image",
    "controlnet_sdxl": "ControlNet image",
    "depth_and_color": "Colors",
    "ensemble_uncertainty": "Uncertainty",
    "native_ksampler": "Colors",
    "normals": "OpenGL",
    "published_model": None,
    "video_frames": "Save colors",
}


def main() -> None:
    """Starts a server and a browser, and writes all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "comfyui"
        write_settings(base)
        server = ComfyUI(base, front_end=True)
        try:
            write_inputs(base)
            for name in NAMES:
                _save(thumbnail(server, name), FOLDER / f"{name}.jpg")
            with front_end(server, 1800, 1000) as editor:
                editor.open(read_workflow(SCREENSHOT_OF), SCREENSHOT_OF)
                editor.run()
                _save(_graph(editor), SCREENSHOT)
        finally:
            server.stop()


def thumbnail(server: ComfyUI, name: str) -> Image.Image:
    """A square picture of what a workflow does."""
    with front_end(server, 1800, 1000) as editor:
        editor.open(read_workflow(name), name)
        if SHOWN[name] is None:
            editor.close_dialogs()
            return _square(_graph(editor).crop((430, 130, 1150, 850)))
        titles = {key: node["_meta"]["title"] for key, node in editor.prompt().items()}
        outputs = editor.run()["outputs"]
    file = next(output["images"][0] for key, output in outputs.items() if titles[key] == SHOWN[name])
    result = _read(server.base / file["type"] / file["subfolder"] / file["filename"])
    return _halves(_square(Image.open(server.base / "input" / "example.png")), _square(result))


def _graph(editor: FrontEnd) -> Image.Image:
    editor.fit()
    return Image.open(BytesIO(editor.page.screenshot()))


def _read(file: Path) -> Image.Image:
    """A picture, or the first frame of a video."""
    if file.suffix != ".mp4":
        return Image.open(file)
    import av

    with av.open(str(file)) as container:
        return next(container.decode(video=0)).to_image()


def _square(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.convert("RGB").crop((left, top, left + side, top + side))
    return square.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)


def _halves(before: Image.Image, after: Image.Image) -> Image.Image:
    """The one left of a slanting line, the other right of it."""
    top, bottom = (SIDE_PX * 0.62, 0), (SIDE_PX * 0.38, SIDE_PX)
    mask = Image.new("L", before.size, 0)
    ImageDraw.Draw(mask).polygon([(0, 0), top, bottom, (0, SIDE_PX)], fill=255)
    picture = Image.composite(before, after, mask)
    ImageDraw.Draw(picture).line([top, bottom], fill="white", width=4)
    return picture


def _save(picture: Image.Image, file: Path) -> None:
    picture.convert("RGB").save(file, quality=88, optimize=True)
    print(f"{file.relative_to(PACK)}: {file.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
