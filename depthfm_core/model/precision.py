"""In which precision and memory layout networks compute: what a kind of device is good at."""

from contextlib import nullcontext

import torch

DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Below so many parameters a network takes a CPU no time worth rounding for; nano has 10 million, DepthFM 866 million.
LARGE_NETWORK = 100_000_000


def choose_dtype(name: str, device: torch.device, num_parameters: int) -> torch.dtype:
    """The dtype of a name; "auto" takes what a device computes well.

    That is bfloat16 on GPUs that have it, else float16; on CPUs with bfloat16 matrix products, bfloat16 for large
    networks; and float32 on others.

    Raises:
        ValueError: for another name.
    """
    if name not in DTYPES:
        raise ValueError(f"Unknown dtype {name!r}; choose one of {', '.join(DTYPES)}.")
    named = DTYPES[name]
    if named is not None:
        return named
    if device.type == "mps":
        return torch.float16
    if device.type == "cuda":
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float16
    return torch.bfloat16 if num_parameters >= LARGE_NETWORK and multiplies_bfloat16(device) else torch.float32


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a GPU (CUDA) or a CPU has instructions for it rather than emulates it; other devices count as no."""
    if device.type == "cuda":
        # PyTorch speaks of the GPU that is current, which need not be this one.
        with nullcontext() if device.index is None else torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and cpu_multiplies_bfloat16()


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it (AMX or AVX512-BF16); without them bfloat16 is slower than float32.

    PyTorch before 2.6 cannot tell, which counts as no.
    """
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)


def network_layout(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """The layout of the velocity network's convolutions: channels last for the tensor cores of a GPU.

    A CPU computes the network 5 to 12 % slower with channels last (two cores with AMX, 512x512, either precision).
    """
    halves = device.type == "cuda" and dtype != torch.float32
    return torch.channels_last if halves else torch.contiguous_format


def codec_dtype(dtype: torch.dtype, *, tiny: bool) -> torch.dtype:
    """What an autoencoder computes in where `dtype` is asked for: float32 for float16, unless it is a tiny one.

    Activations of KL autoencoders of Stable Diffusion's family overflow in float16, which is why ComfyUI, too, runs
    them in bfloat16 or float32 only (`VAE.working_dtypes` in comfy/sd.py).
    """
    return torch.float32 if dtype == torch.float16 and not tiny else dtype


def codec_layout(device: torch.device) -> torch.memory_format:
    """The layout of an autoencoder's convolutions: channels last on CPUs.

    On a CPU (two cores with AMX, 512x512) they take bfloat16 decoding from 3.6 to 1.5 s and the peak of float32
    decoding from 1.2 to 0.8 GB, since nothing is reordered. An H100 decodes in bfloat16 in 28 ms with them and in 22 ms
    without (PyTorch 2.11).
    """
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format
