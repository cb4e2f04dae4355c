"""Truncated, damaged, hostile and foreign models: each gives one sentence and exit code 2."""

import os
import pickle
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from depthfm_core.__main__ import main
from depthfm_core.model.layouts import NULL_TEXT

from .malformed import QUICK, Runs, in_itself


def cut(source, target, share):
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


SHARES = [0.0, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 0.99999]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("kind", ["ckpt", "safetensors", "vae"])
def test_a_truncated_file_is_refused(good_files, refused, tmp_path, kind, share):
    broken = cut(good_files[kind], tmp_path / f"broken.{kind}", share)
    refused(**({"vae": broken} if kind == "vae" else {"model": broken}))


@pytest.mark.parametrize("offset", [*range(0, 40, 2), 64, 128, 200])
@pytest.mark.parametrize("kind", ["ckpt", "safetensors"])
def test_a_damaged_header_is_refused_or_does_not_matter(good_files, tmp_path, capsys, kind, offset):
    """A flipped byte may hit a date or a name's hash, which nobody reads; then the map must be whole."""
    content = bytearray(good_files[kind].read_bytes())
    content[offset] ^= 0xFF
    (tmp_path / "broken.bin").write_bytes(content)
    output = tmp_path / "out"
    model = ("--model", str(tmp_path / "broken.bin"), "--vae", str(good_files["vae"]), "--output", str(output))
    code = main(["predict", str(good_files["photo"]), *QUICK, *model, "--save", "npy"])
    errors = capsys.readouterr().err
    if code == 0:
        assert np.isfinite(np.load(output / "photo.npy")).all()
    else:
        assert code == 2 and errors.startswith("depthfm: ") and "Traceback" not in errors and not output.exists()


def mark_commands(mark):
    return {
        "os.system": Runs(os.system, f"touch {mark}"),
        "subprocess": Runs(subprocess.call, ["touch", str(mark)]),
        "eval": Runs(eval, f"open({str(mark)!r}, 'w')"),
        "exec": Runs(exec, f"open({str(mark)!r}, 'w')"),
        "open": Runs(open, str(mark), "w"),
        "method": Runs(Path.touch, Path(mark)),
        "numpy": Runs(np.save, f"{mark}.npy", 1),
        "torch": Runs(torch.save, {}, str(mark)),
    }


@pytest.mark.parametrize("attack", mark_commands(""))
@pytest.mark.parametrize("place", ["zip", "legacy", "bare pickle", "vae"])
def test_a_file_never_runs_code(good_files, refused, tmp_path, attack, place):
    mark, path = tmp_path / "ran", tmp_path / "evil.ckpt"
    payload = {"state_dict": {"input_blocks.0.0.weight": mark_commands(mark)[attack]}}
    if place == "bare pickle":
        path.write_bytes(pickle.dumps(payload, protocol=2))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=place != "legacy")
    refused(**({"vae": path} if place == "vae" else {"model": path}))
    assert not list(tmp_path.glob("ran*"))


@pytest.mark.parametrize("attack", mark_commands(""))
def test_each_attack_would_leave_its_mark(tmp_path, attack):
    pickle.loads(pickle.dumps(mark_commands(tmp_path / "ran")[attack]))
    assert list(tmp_path.glob("ran*"))


def test_a_zip_that_is_no_torch_file_is_refused(refused, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    refused(model=tmp_path / "a.ckpt")


FOREIGN = {
    "text to image": {"input_blocks.0.0.weight": torch.zeros(32, 4, 3, 3)},
    "inpainting": {"input_blocks.0.0.weight": torch.zeros(32, 9, 3, 3)},
    "one tensor": {"weight": torch.zeros(3)},
    "first layer only": {"input_blocks.0.0.weight": torch.zeros(32, 8, 3, 3)},
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_foreign_model_is_refused(refused, tmp_path, kind, prefix):
    save_file({prefix + k: v for k, v in FOREIGN[kind].items()}, tmp_path / "a.safetensors")
    refused(model=tmp_path / "a.safetensors")


@pytest.mark.parametrize("index", [0, 7, 60, 150, 285])
@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_a_wrong_tensor_is_named(good_files, refused, tmp_path, fault, index):
    tensors = load_file(good_files["safetensors"])
    name = sorted(k for k in tensors if "." in k)[index]
    tensor = tensors.pop(name)
    if fault == "extra":
        tensors |= {name: tensor, f"{name}.more": torch.zeros(1)}
    elif fault == "shape":
        tensors[name] = torch.zeros(*tensor.shape, 2)
    save_file(tensors, tmp_path / "a.safetensors")
    errors = refused(model=tmp_path / "a.safetensors")
    assert name in errors or name.startswith("input_blocks.0.0")  # without its first layer it is no UNet at all


WRONG_SHAPES = {
    "num_res_blocks": (10**9, 0, 1.5, "two", [1, 2], torch.zeros(3)),
    "channel_mult": ([], [1, -2], [10**6, 2], 4, None, torch.zeros(2)),
    "model_channels": (0, 33, 10**30, torch.zeros(())),
    "attention_resolutions": (None, [[1]], ["x"]),
    "context_dim": (-1, 25, 10**9, {}),
    "in_channels": (4, 9, "x"),
    "out_channels": ([10**6, 2], 5),
    "num_heads": (0, 7, -1, "x", None, 4.0, True),
    "num_head_channels": (16, torch.zeros(1, 4), 4.0, True),
    "transformer_depth": (float("nan"), 10**9, 2),
    "use_linear_in_transformer": (False, torch.zeros(3)),
    "use_spatial_transformer": (False, None),
    "colour": (1,),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, v) for name, values in WRONG_SHAPES.items() for v in values], ids=str
)
def test_wrong_hyper_parameters_are_refused(good_files, refused, tmp_path, name, value):
    content = torch.load(good_files["ckpt"], weights_only=False)
    content["ldm_hparams"] = dict(content["ldm_hparams"]) | {name: value}
    torch.save(content, tmp_path / "a.ckpt")
    refused(model=tmp_path / "a.ckpt")


WRONG_PARTS = {
    "infinite noising step": lambda c: c | {"noising_step": float("inf")},
    "no scale of latents": lambda c: c | {"codec_config": {"scaling_factor": None}},
    "infinite spread": lambda c: c | {"spread_scale": float("inf")},
    "a dictionary in itself": lambda c: c | {"state_dict": in_itself()},
    "a sparse tensor": lambda c: with_last_layer(c, torch.zeros(4).to_sparse()),
    "a tensor without values": lambda c: with_last_layer(c, torch.zeros(4, device="meta")),
    "text without a number": lambda c: c | {NULL_TEXT: np.full_like(c[NULL_TEXT], np.nan)},
    "a pickle of petabytes": lambda c: c | {NULL_TEXT: Runs(np.ndarray, (10**15,))},
}


def with_last_layer(content, bias):
    return content | {"state_dict": content["state_dict"] | {"out.2.bias": bias}}


@pytest.mark.parametrize("kind", WRONG_PARTS)
def test_a_model_of_wrong_parts_is_refused_by_its_name(good_files, refused, tmp_path, kind):
    content = WRONG_PARTS[kind](torch.load(good_files["ckpt"], weights_only=False))
    torch.save(content, tmp_path / "a.ckpt")
    assert f"{tmp_path / 'a.ckpt'}: " in refused(model=tmp_path / "a.ckpt")
