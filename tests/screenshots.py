"""Makes the thumbnails in `workflows/` and the picture of a graph in `docs/` again: `python -m tests.screenshots`.

Everything is taken from the real front end on a real ComfyUI (see `comfyui_server` and `browser`). A thumbnail shows
the pack's example picture and what the workflow makes of it with nano (of the workflows for ControlNets their input),
or the part of the graph that it is about; below stands what tells it from the others.
"""

import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .browser import FrontEnd, front_end, write_settings
from .comfyui_server import PACK, ComfyUI
from .workflows import FOLDER, NAMES, read_workflow, write_inputs

SIDE_PX = 400
SCREENSHOT = PACK / "docs" / "workflow.jpg"
SCREENSHOT_OF = "depth_and_color"
# What stands below a thumbnail, and the titles of the nodes whose outputs it shows, or the types of those it is about.
CAPTIONS = {
    "controlnet_sd15": "ControlNet, SD 1.5",
    "controlnet_sdxl": "ControlNet, SDXL",
    "depth_and_color": "depth and colors",
    "edited_depth": "edited depth",
    "ensemble_uncertainty": "uncertainty",
    "native_ksampler": "KSampler",
    "normals": "normals",
    "published_model": "the authors' model",
    "video_frames": "video",
}
SHOWN = {
    "controlnet_sd15": ("ControlNet image",),
    "controlnet_sdxl": ("ControlNet image",),
    "depth_and_color": ("Depth", "Colors"),
    "edited_depth": ("Edited depth", "Its relief"),
    "ensemble_uncertainty": ("Uncertainty",),
    "normals": ("OpenGL",),
    "video_frames": ("Save colors",),
}
PARTS = {
    "native_ksampler": ("KSampler", "DepthFM_Decode"),
    "published_model": ("LoadImage", "DepthFM_LoadModel", "VAELoader", "DepthFM_Sampler"),
}
_SELECT = "types => app.canvas.selectItems(app.graph._nodes.filter(node => types.includes(node.type)))"
_BAR_PX = 56


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
    with front_end(server, 1000, 1000) as editor:
        editor.open(read_workflow(name), name)
        if name in PARTS:
            return _captioned(_part(editor, PARTS[name]), CAPTIONS[name])
        titles = {key: node["_meta"]["title"] for key, node in editor.prompt().items()}
        outputs = {titles[key]: output["images"][0] for key, output in editor.run()["outputs"].items() if key in titles}
    shown = [outputs[title] for title in SHOWN[name]]
    files = [server.base / file["type"] / file["subfolder"] / file["filename"] for file in shown]
    if files[0].suffix == ".mp4":
        return _captioned(_rows(server.base / "input" / "video.mp4", files[0]), CAPTIONS[name])
    pictures = [Image.open(file) for file in (server.base / "input" / "example.png", *files)]
    return _captioned(_bands(list(map(_square, pictures))), CAPTIONS[name])


def _part(editor: FrontEnd, types: tuple[str, ...]) -> Image.Image:
    """The nodes of these types, above the place of the caption; nothing of the front end's own lies in this square."""
    editor.close_dialogs()
    editor.page.evaluate(_SELECT, list(types))
    editor.fit(0.65)
    editor.page.evaluate("app.canvas.deselectAll()")
    editor.page.wait_for_timeout(500)
    return Image.open(BytesIO(editor.page.screenshot())).crop((130, 182, 870, 922))


def _graph(editor: FrontEnd) -> Image.Image:
    editor.fit()
    return Image.open(BytesIO(editor.page.screenshot()))


def _rows(before: Path, after: Path) -> Image.Image:
    """The first, a middle and the last frame of two videos, below each other."""
    pairs = list(zip(_frames(before), _frames(after), strict=True))
    chosen = [pairs[i] for i in (0, len(pairs) // 2, -1)]
    picture, height = Image.new("RGB", (SIDE_PX, SIDE_PX), "white"), (SIDE_PX - _BAR_PX) // len(chosen)
    for row, pair in enumerate(chosen):
        strip = _bands([_square(frame) for frame in pair]).crop((0, 120, SIDE_PX, 120 + height - 6))
        picture.paste(strip, (0, row * height))
    return picture


def _frames(video: Path) -> list[Image.Image]:
    import av

    with av.open(str(video)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def _square(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.convert("RGB").crop((left, top, left + side, top + side))
    return square.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)


def _bands(pictures: list[Image.Image]) -> Image.Image:
    """Squares beside each other, a share of the width of each, with slanting lines between."""
    whole = pictures[0].copy()
    for index, picture in enumerate(pictures[1:], 1):
        middle = SIDE_PX * index / len(pictures)
        top, bottom = (middle + SIDE_PX * 0.12, 0), (middle - SIDE_PX * 0.12, SIDE_PX)
        mask = Image.new("L", whole.size, 255)
        ImageDraw.Draw(mask).polygon([(-SIDE_PX, 0), top, bottom, (-SIDE_PX, SIDE_PX)], fill=0)
        whole.paste(picture, mask=mask)
        ImageDraw.Draw(whole).line([top, bottom], fill="white", width=4)
    return whole


def _captioned(picture: Image.Image, text: str) -> Image.Image:
    """A square picture with a line of text over its lower end."""
    whole = picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(whole)
    draw.rectangle([0, SIDE_PX - _BAR_PX, SIDE_PX, SIDE_PX], fill=(25, 25, 25))
    center = SIDE_PX // 2, SIDE_PX - _BAR_PX // 2
    draw.text(center, text, fill="white", font=ImageFont.load_default(36), anchor="mm")
    return whole


def _save(picture: Image.Image, file: Path) -> None:
    picture.convert("RGB").save(file, quality=88, optimize=True)
    print(f"{file.relative_to(PACK)}: {file.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
