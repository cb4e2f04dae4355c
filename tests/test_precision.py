from contextlib import contextmanager

import pytest
import torch

from depthfm_core.model import precision
from depthfm_core.model.precision import (
    LARGE_NETWORK,
    choose_dtype,
    codec_layout,
    cpu_multiplies_bfloat16,
    multiplies_bfloat16,
    network_layout,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_auto_takes_bfloat16_on_a_cpu_only_where_it_pays(monkeypatch, has_bfloat16):
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: has_bfloat16)
    assert choose_dtype("auto", CPU, LARGE_NETWORK) == (torch.bfloat16 if has_bfloat16 else torch.float32)
    assert choose_dtype("auto", CPU, LARGE_NETWORK - 1) == torch.float32


@pytest.mark.parametrize(("has_bfloat16", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_takes_half_precision_on_gpus(monkeypatch, has_bfloat16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_how: has_bfloat16)
    assert choose_dtype("auto", torch.device("cuda"), 1) == expected


def test_auto_asks_the_gpu_that_is_meant(monkeypatch):
    current = [0]

    @contextmanager
    def made_current(device):
        current.append(device.index)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", made_current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_how: current[-1] == 1)
    assert choose_dtype("auto", torch.device("cuda:1"), 1) == torch.bfloat16
    assert choose_dtype("auto", torch.device("cuda:0"), 1) == torch.float16
    assert choose_dtype("auto", torch.device("mps"), 1) == torch.float16


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_a_cpu_multiplies_bfloat16_where_it_has_instructions_for_it_and_mps_does_not(monkeypatch, has_bfloat16):
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: has_bfloat16)
    assert multiplies_bfloat16(CPU) == has_bfloat16
    assert not multiplies_bfloat16(torch.device("mps"))


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_dtype_that_is_named_is_taken(name):
    assert choose_dtype(name, CPU, 1) == choose_dtype(name, torch.device("mps"), LARGE_NETWORK) == getattr(torch, name)


@pytest.mark.parametrize(("amx", "avx512"), [(True, False), (False, True), (False, False)])
def test_pytorch_says_what_the_cpu_can(monkeypatch, amx, avx512):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert cpu_multiplies_bfloat16() == (amx or avx512)


def test_an_older_pytorch_that_cannot_tell_counts_as_a_cpu_without_bfloat16(monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name)
    assert not cpu_multiplies_bfloat16()


@pytest.mark.parametrize(
    ("device", "dtype", "network", "codec"),
    [
        ("cpu", torch.bfloat16, torch.contiguous_format, torch.channels_last),
        ("cuda", torch.bfloat16, torch.channels_last, torch.contiguous_format),
        ("cuda", torch.float32, torch.contiguous_format, torch.contiguous_format),
        ("mps", torch.float16, torch.contiguous_format, torch.contiguous_format),
    ],
)
def test_convolutions_have_the_layout_in_which_their_device_is_fastest(device, dtype, network, codec):
    assert network_layout(torch.device(device), dtype) == network and codec_layout(torch.device(device)) == codec
