"""Shards of latents and the set that draws batches out of them: `shards.py` and `latents.py`."""

import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from safetensors.torch import load_file, save_file

from depthfm_core.training.latents import LatentSet
from depthfm_core.training.shards import FORMATS, write_shard


def make_shard(path, count=3, seed=0, origin=None):
    """A shard of random latents; its tensors."""
    generator = torch.Generator().manual_seed(seed)
    image_latent, depth_latent = torch.randn(2, count, 4, 2, 3, generator=generator).half()
    valid = (torch.rand(count, 2, 3, generator=generator) > 0.5).to(torch.uint8)
    tensors = {"image_latent": image_latent.clone(), "depth_latent": depth_latent.clone(), "valid": valid}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_shard(path, tensors, origin or {})
    return tensors


def test_a_full_disk_is_told_with_the_shard_and_leaves_no_half_one(tmp_path, monkeypatch):
    def fill(path, content):
        with open(path, "wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(OSError, match="No space left.*a-0000.safetensors"):
        make_shard(tmp_path / "a-0000.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_a_batch_is_the_one_that_all_shards_in_memory_would_give(kind, tmp_path):
    suffix = FORMATS[kind].suffix
    made = [make_shard(tmp_path / f"a-{index:04d}{suffix}", count, index) for index, count in enumerate((3, 1, 5))]
    everything = {name: torch.cat([tensors[name] for tensors in made]) for name in made[0]}
    latents = LatentSet([tmp_path])
    picked = np.random.default_rng(7).integers(9, size=40)
    drawn = latents.draw(40, np.random.default_rng(7))
    assert torch.equal(drawn.image_latent, everything["image_latent"][picked].float())
    assert torch.equal(drawn.depth_latent, everything["depth_latent"][picked].float())
    assert torch.equal(drawn.valid, everything["valid"][picked][:, None].bool())
    assert len(latents) == 9 and latents.tokens == 6
    with torch.autocast("cpu", torch.bfloat16):
        assert latents.draw(2, np.random.default_rng(7)).image_latent.dtype == torch.float32


def test_webdataset_streams_what_was_written_view_by_view(tmp_path):
    tensors = make_shard(tmp_path / "v1.2-0000.tar")
    samples = list(webdataset.WebDataset(str(tmp_path / "v1.2-0000.tar"), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == [f"v1_2-0000-{index:06d}" for index in range(3)]
    for name, values in tensors.items():
        assert all(np.array_equal(sample[f"{name}.npy"], row) for sample, row in zip(samples, values, strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_opening_and_drawing_takes_no_memory_of_its_own(tmp_path):
    def own_bytes():
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("RssAnon:")[2].split()[0]) * 1024

    latent = torch.zeros(4000, 4, 48, 64, dtype=torch.half)
    tensors = {"image_latent": latent, "depth_latent": latent, "valid": torch.ones(4000, 48, 64, dtype=torch.uint8)}
    (tmp_path / "a-0000.safetensors").touch()
    write_shard(tmp_path / "a-0000.safetensors", {**tensors, "depth_latent": latent.clone()}, {})
    before = own_bytes()
    latents = LatentSet([tmp_path])
    latents.draw(4, np.random.default_rng(0))
    assert own_bytes() - before < 20e6 < (tmp_path / "a-0000.safetensors").stat().st_size / 10


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("left", [0, 100, 0.5, 0.8])
def test_a_truncated_shard_is_refused_when_a_set_is_opened(kind, left, tmp_path):
    path = tmp_path / f"a-0001{FORMATS[kind].suffix}"
    make_shard(tmp_path / f"a-0000{path.suffix}")
    make_shard(path, count=20)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole)) if isinstance(left, float) else left])
    with pytest.raises(ValueError, match="a-0001.* is no whole shard of latents .*delete it and run"):
        LatentSet([tmp_path])


@pytest.mark.parametrize("kind", FORMATS)
def test_a_foreign_file_is_refused_when_a_set_is_opened(kind, tmp_path):
    path = tmp_path / f"a-0000{FORMATS[kind].suffix}"
    path.write_bytes(b"no shard at all" * 1000)
    with pytest.raises(ValueError, match="a-0000.* is no whole shard"):
        LatentSet([tmp_path])


def test_a_shard_that_does_not_say_what_made_it_is_refused(tmp_path):
    path = tmp_path / "a-0000.safetensors"
    make_shard(path)
    save_file(load_file(path), path)
    with pytest.raises(ValueError, match="does not say what made it.*delete it and run"):
        LatentSet([tmp_path])
    path.unlink()
    with tarfile.open(tmp_path / "a-0000.tar", "w"):
        pass
    with pytest.raises(ValueError, match="does not say what made it"):
        LatentSet([tmp_path])


def test_a_shard_that_does_not_say_all_that_a_recipe_does_is_refused(tmp_path):
    make_shard(tmp_path / "a-0000.safetensors")
    with pytest.raises(ValueError, match="was made by an earlier version, with another lens than now"):
        LatentSet([tmp_path], origins=[{"lens": "wide"}])


def test_tensors_that_are_no_latents_are_refused(tmp_path):
    latent, valid = torch.zeros(2, 4, 2, 3).half(), torch.zeros(2, 2, 3, dtype=torch.uint8)
    for image_latent in (latent.float(), latent[:1].clone(), latent[:, :3].clone(), latent[..., :2].clone()):
        tensors = {"image_latent": image_latent, "depth_latent": latent.clone(), "valid": valid}
        write_shard(tmp_path / "a-0000.safetensors", tensors, {})
        with pytest.raises(ValueError, match="a-0000.safetensors holds .* no views of one size"):
            LatentSet([tmp_path])


def test_a_folder_with_the_same_views_in_two_formats_is_refused(tmp_path):
    make_shard(tmp_path / "a-0000.safetensors")
    make_shard(tmp_path / "a-0000.tar")
    with pytest.raises(ValueError, match="formats safetensors, webdataset; delete"):
        LatentSet([tmp_path])
