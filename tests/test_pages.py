import mmap
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from depthfm_core.model.pages import _mapped_areas, convert_tensors
from depthfm_core.model.reading import read_tensor_file

SAVERS = {"safetensors": save_file, "ckpt": torch.save}


def mapped_bytes():
    """Of the memory that this process holds, what belongs to files."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * mmap.PAGESIZE


def to_bfloat16(_name, tensor):
    return tensor.bfloat16()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self")
@pytest.mark.parametrize("suffix", SAVERS)
def test_a_converted_file_does_not_stay_in_memory_and_can_be_read_again(tmp_path, suffix):
    written = {f"weight{i}": torch.full((2**20,), float(i)) for i in range(16)}  # 64 MiB
    path = tmp_path / f"file.{suffix}"
    SAVERS[suffix](written, path)
    tensors, _ = read_tensor_file(path)
    before = mapped_bytes()
    converted = convert_tensors(tensors, path, to_bfloat16)
    assert mapped_bytes() - before < 2**22
    assert all(torch.equal(converted[name], tensor.bfloat16()) for name, tensor in written.items())
    assert all(torch.equal(tensors[name], tensor) for name, tensor in written.items())


@pytest.mark.parametrize("below", ["", "unet/weights.safetensors"])
def test_memory_that_is_not_the_files_keeps_its_values(tmp_path, below):
    (tmp_path / "unet").mkdir()
    save_file({"weight": torch.zeros(2**16)}, tmp_path / "unet" / "weights.safetensors")
    _mapped = read_tensor_file(tmp_path / "unet" / "weights.safetensors")
    own = {"weight": torch.ones(2**20)}
    convert_tensors(own, tmp_path / below, to_bfloat16)
    assert own["weight"].min() == 1


def test_what_needs_no_conversion_stays_the_same_tensor(tmp_path):
    save_file({"weight": torch.ones(2**16)}, tmp_path / "file.safetensors")
    tensors, _ = read_tensor_file(tmp_path / "file.safetensors")
    converted = convert_tensors(tensors, tmp_path / "file.safetensors", lambda _name, tensor: tensor.float())
    assert converted["weight"] is tensors["weight"]


@pytest.mark.skipif(sys.platform != "linux", reason="only there a path may be any bytes")
def test_a_file_whose_path_is_no_text_is_found_among_what_is_mapped(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.bin"))
    path.write_bytes(bytes(2 * mmap.PAGESIZE))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        ((start, end),) = _mapped_areas(path)
    assert end - start == 2 * mmap.PAGESIZE
