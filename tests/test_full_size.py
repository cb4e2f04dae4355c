"""A random-weight checkpoint of the published size, 3.5 GB; `python -m pytest -m slow -s tests/test_full_size.py`."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from depthfm_core.model.hyperparameters import from_ldm
from depthfm_core.model.names import diffusers_to_ldm
from depthfm_core.model.unet import DepthFMUNet

# Runs alone in a process. Linux's high-water mark counts mapped pages that were touched, too, and is set back before
# the load; getrusage's would be the parent's, which held the whole model.
MEASURE = """
import json, re, sys, time
from pathlib import Path
import torch
from depthfm_core.model.checkpoints import load_checkpoint
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
Path("/proc/self/clear_refs").write_text("5")
before, start = peak(), time.perf_counter()
network = load_checkpoint(sys.argv[1]).build_unet(dtype=getattr(torch, sys.argv[2]))
seconds = time.perf_counter() - start
with torch.no_grad():  # the first call touches every weight, which until then may only be mapped
    v = network(torch.zeros(1, 4, 8, 8), torch.zeros(1), torch.zeros(1, 4, 8, 8))
used, extra = time.perf_counter() - start, peak() - before
print(json.dumps({"load": seconds, "use": used, "extra_bytes": extra, "finite": bool(v.isfinite().all())}))
"""


@pytest.fixture(scope="module")
def published_file(tmp_path_factory, published_hparams):
    """A file like depthfm-v1.ckpt with random weights, float32."""
    with torch.device("meta"):
        shapes = DepthFMUNet(from_ldm(published_hparams), torch.empty(1, 77, 1024)).unet.state_dict()
    generator = torch.Generator().manual_seed(0)
    weights = {k: 0.02 * torch.randn(t.shape, generator=generator) for k, t in shapes.items()}
    content = {
        "noising_step": 400,
        "empty_text_embedding": np.zeros((1, 77, 1024), np.float32),
        "ldm_hparams": published_hparams,
        "state_dict": diffusers_to_ldm(weights, from_ldm(published_hparams)),
    }
    assert len(weights) == 686 and sum(t.numel() for t in weights.values()) == 865_922_244
    path = tmp_path_factory.mktemp("full") / "depthfm-v1.ckpt"
    torch.save(content, path)
    yield path
    path.unlink()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self")
@pytest.mark.parametrize(("dtype", "share"), [("float32", 1.0), ("bfloat16", 0.5)])
def test_a_full_size_checkpoint_loads_in_little_more_memory_than_its_model_takes(published_file, dtype, share):
    """float32 stays mapped from the file; bfloat16 lets go of the file as it goes."""
    command = [sys.executable, "-c", MEASURE, str(published_file), dtype]
    measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    size = share * published_file.stat().st_size
    times = f"loaded in {measured['load']:.1f} s, used after {measured['use']:.1f} s"
    print(f"\n{dtype}: {times}, {measured['extra_bytes'] / size:.2f} of {size / 1e9:.2f} GB")  # noqa: T201
    assert measured["finite"]
    assert 0.9 * size < measured["extra_bytes"] <= 1.3 * size
