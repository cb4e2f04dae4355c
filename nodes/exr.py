"""EXR from Save Depth: by the package OpenEXR where it is installed, else by PyAV, which ComfyUI itself requires.

Both write one channel Y of 32-bit floats, compressed without loss. PyAV has no place for the graph.
"""

from fractions import Fraction
from pathlib import Path

from torch import Tensor

from ..depthfm_core.depth.files import import_openexr
from ..depthfm_core.replacing import replacing_output


def has_openexr() -> bool:
    """Whether the core can write EXR."""
    try:
        import_openexr()
    except ValueError:
        return False
    return True


def exr_refusal() -> str | None:
    """Why no EXR can be written here."""
    if has_openexr() or _pyav_has_exr():
        return None
    return (
        "Writing EXR needs the package av (PyAV), which ComfyUI's requirements.txt names, or OpenEXR, 3.3 or newer; "
        "install one with `pip install -U av` or `pip install -U OpenEXR`, or choose the format npy, which holds the "
        "same float32 values."
    )


def write_exr_by_pyav(path: Path, values: Tensor) -> None:
    """Writes [H, W] of finite values as a float32 EXR file with the one channel Y; errors: `replacing_output`."""
    import av

    height, width = values.shape
    encoder = av.CodecContext.create("exr", "w")
    encoder.width, encoder.height = width, height
    encoder.pix_fmt = "grayf32le"
    encoder.time_base = Fraction(1)  # of a single frame; no encoder opens without one
    encoder.options = {"compression": "zip16", "format": "float"}
    frame = av.VideoFrame.from_ndarray(values.float().cpu().contiguous().numpy(), format=encoder.pix_fmt)
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    with replacing_output(path) as temporary:
        temporary.write_bytes(b"".join(map(bytes, packets)))


def _pyav_has_exr() -> bool:
    try:
        import av

        av.Codec("exr", "w")
    except (ImportError, ValueError):  # PyAV's own error for an encoder that it was built without is a ValueError
        return False
    return True
