"""What running out of memory looks like, and the error that says what to do about it."""

import comfy.model_management as mm

_ON_A_MAC = "MPS backend out of memory"  # the words of a plain RuntimeError


class AutoencoderOutOfMemory(mm.OOM_EXCEPTION):
    """One picture does not fit into the autoencoder: fewer members or frames at once would not help.

    ComfyUI takes it for what its base class is, and makes room for what runs next.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__(
            f"The autoencoder does not fit into memory at {width}x{height} pixels, and tiles would change the depth. "
            "Lower processing_resolution (in a graph with KSampler: the size of the image), or close what else uses "
            "the GPU."
        )


def is_out_of_memory(error: Exception) -> bool:
    """By ComfyUI's own judgement, of which newer versions than 0.3.75 know more kinds than one, or on a Mac."""
    known = mm.is_oom(error) if hasattr(mm, "is_oom") else isinstance(error, mm.OOM_EXCEPTION)
    return known or (isinstance(error, RuntimeError) and _ON_A_MAC in str(error))
