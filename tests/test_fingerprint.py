"""Which weights were measured."""

import hashlib
from pathlib import Path

import huggingface_hub
import torch
from torch import nn

from depthfm_core.model.fingerprint import fingerprint, fingerprint_weights


def test_a_folder_is_known_by_its_files_and_not_by_what_importing_leaves_in_it(tmp_path):
    (tmp_path / "hubconf.py").write_text("x = 1", encoding="utf-8")
    first = fingerprint(str(tmp_path))
    for folder in ("__pycache__", ".git"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("left", encoding="utf-8")
    assert fingerprint(str(tmp_path)) == first
    (tmp_path / "hubconf.py").write_text("x = 2", encoding="utf-8")
    assert fingerprint(str(tmp_path)) != first


def test_a_folders_files_count_in_the_order_of_their_names_on_every_system(tmp_path):
    """Capitals first, though Windows sorts paths without case, and a folder's files together."""
    names = ("LICENSE", "README.md", "config.json", "vae/config.json", "vae-old.json")
    digest = hashlib.sha256()
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{name}'s", encoding="utf-8")
        digest.update(f"{name}{name}'s".encode())
    assert fingerprint(str(tmp_path)) == f"sha256:{digest.hexdigest()}"


def test_a_modules_digest_is_of_its_names_types_shapes_and_bytes():
    module = nn.Linear(2, 1)
    digest = hashlib.sha256(b"a fact")
    for name in ("bias", "weight"):
        tensor = module.state_dict()[name]
        digest.update(f"{name} torch.float32 {list(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    assert fingerprint_weights(module, "a fact") == f"sha256:{digest.hexdigest()}"
    assert fingerprint_weights(module, "another") != fingerprint_weights(module, "a fact")


def test_weights_of_bfloat16_and_numbers_without_a_shape_have_a_digest_too():
    module = nn.BatchNorm1d(2).bfloat16()  # it counts its batches in a tensor without a shape
    first = fingerprint_weights(module)
    assert fingerprint_weights(module) == first
    with torch.no_grad():
        module.weight[0] = 2
    assert fingerprint_weights(module) != first


def test_a_repository_is_known_by_the_commit_that_a_library_would_take_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert fingerprint("someone/Wizard") == "someone/Wizard"
    cache = tmp_path / "models--someone--Wizard"
    for commit in ("a" * 40, "b" * 40):  # two snapshots, as after an update
        (cache / "snapshots" / commit).mkdir(parents=True)
        (cache / "snapshots" / commit / "config.json").write_text(commit, encoding="utf-8")
    (cache / "refs").mkdir()
    for commit in ("a" * 40, "b" * 40):
        (cache / "refs" / "main").write_text(commit, encoding="utf-8")
        assert fingerprint("someone/Wizard") == f"someone/Wizard@{commit}"
        loaded = huggingface_hub.hf_hub_download(
            "someone/Wizard", "config.json", cache_dir=tmp_path, local_files_only=True
        )
        assert Path(loaded).read_text(encoding="utf-8") == commit


def test_a_repository_of_torch_hub_is_known_by_its_code(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert fingerprint("isl-org/MiDaS") == "isl-org/MiDaS"
    code = tmp_path / "isl-org_MiDaS_master" / "hubconf.py"
    code.parent.mkdir()
    code.write_text("x = 1", encoding="utf-8")
    first = fingerprint("isl-org/MiDaS")
    assert first == f"isl-org/MiDaS@{fingerprint(str(code.parent))}"
    code.write_text("x = 2", encoding="utf-8")
    assert fingerprint("isl-org/MiDaS") != first
