"""Which weights were measured."""

import hashlib

import torch
from torch import nn

from depthfm_core.evaluation.fingerprint import fingerprint, fingerprint_weights


def test_a_folder_is_known_by_its_files_and_not_by_what_importing_leaves_in_it(tmp_path):
    (tmp_path / "hubconf.py").write_text("x = 1", encoding="utf-8")
    first = fingerprint(str(tmp_path))
    for folder in ("__pycache__", ".git"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("left", encoding="utf-8")
    assert fingerprint(str(tmp_path)) == first
    (tmp_path / "hubconf.py").write_text("x = 2", encoding="utf-8")
    assert fingerprint(str(tmp_path)) != first


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
