"""More than 200 malformed or extreme inputs: each gives one sentence and exit code 2, or a finite map of its size."""

import io
import json
import os
import pickle
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from depthfm_core import EstimationSettings, load_pipeline
from depthfm_core.__main__ import main
from depthfm_core.model.bundled import NANO_PATH
from depthfm_core.model.checkpoints import convert, load_checkpoint
from depthfm_core.model.codec import build_codec, load_codec
from depthfm_core.model.layouts import NULL_TEXT
from depthfm_core.model.reading import CheckpointError

QUICK = ("--steps", "1", "--resolution", "32")


@pytest.fixture(scope="module")
def files(golden_dir, tmp_path_factory):
    """A checkpoint in both formats, an autoencoder and a picture, all in working order."""
    folder = tmp_path_factory.mktemp("files")
    convert(golden_dir / "depthfm-micro-heads8.ckpt", folder / "model.safetensors")
    Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)).save(folder / "photo.png")
    return {
        "ckpt": golden_dir / "depthfm-micro-heads8.ckpt",
        "safetensors": folder / "model.safetensors",
        "vae": golden_dir / "micro-vae-diffusers.safetensors",
        "photo": folder / "photo.png",
    }


@pytest.fixture
def refused(files, tmp_path, capsys):
    """Runs `predict` and checks that it refuses in one sentence, with nothing written."""

    def run(*options, photo=None, model=None, vae=None):
        output = tmp_path / "out"
        chosen = ("--model", str(model or files["ckpt"]), "--vae", str(vae or files["vae"]), "--output", str(output))
        code = main(["predict", str(photo or files["photo"]), *QUICK, *chosen, *options])
        errors = capsys.readouterr().err.strip()
        assert code == 2
        assert errors.startswith("depthfm: ") and len(errors) > 20
        assert "\n" not in errors and "Traceback" not in errors
        assert not output.exists()
        return errors

    return run


def cut(source, target, share):
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


SHARES = [0.0, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 0.99999]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("kind", ["ckpt", "safetensors", "vae"])
def test_a_truncated_file_is_refused(files, refused, tmp_path, kind, share):
    broken = cut(files[kind], tmp_path / f"broken.{kind}", share)
    refused(**({"vae": broken} if kind == "vae" else {"model": broken}))


@pytest.mark.parametrize("offset", [*range(0, 40, 2), 64, 128, 200])
@pytest.mark.parametrize("kind", ["ckpt", "safetensors"])
def test_a_damaged_header_is_refused_or_does_not_matter(files, tmp_path, capsys, kind, offset):
    """A flipped byte may hit a date or a name's hash, which nobody reads; then the map must be whole."""
    content = bytearray(files[kind].read_bytes())
    content[offset] ^= 0xFF
    (tmp_path / "broken.bin").write_bytes(content)
    output = tmp_path / "out"
    model = ("--model", str(tmp_path / "broken.bin"), "--vae", str(files["vae"]), "--output", str(output))
    code = main(["predict", str(files["photo"]), *QUICK, *model, "--save", "npy"])
    errors = capsys.readouterr().err
    if code == 0:
        assert np.isfinite(np.load(output / "photo.npy")).all()
    else:
        assert code == 2 and errors.startswith("depthfm: ") and "Traceback" not in errors and not output.exists()


class Runs:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


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
def test_a_file_never_runs_code(files, refused, tmp_path, attack, place):
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
def test_a_wrong_tensor_is_named(files, refused, tmp_path, fault, index):
    tensors = load_file(files["safetensors"])
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
def test_wrong_hyper_parameters_are_refused(files, refused, tmp_path, name, value):
    content = torch.load(files["ckpt"], weights_only=False)
    content["ldm_hparams"] = dict(content["ldm_hparams"]) | {name: value}
    torch.save(content, tmp_path / "a.ckpt")
    refused(model=tmp_path / "a.ckpt")


@pytest.mark.parametrize("key", ["epoch", 7, "hook"])
def test_what_training_leaves_beside_an_autoencoder_does_not_matter(files, tmp_path, key):
    weights = load_file(files["vae"])
    for name, content in (("flat", weights | {key: 3}), ("nested", {"state_dict": weights | {key: b"x"}, key: 3})):
        torch.save(content, tmp_path / f"{name}.ckpt")
        assert all(
            torch.equal(tensor, weights[name])
            for name, tensor in load_codec(tmp_path / f"{name}.ckpt").autoencoder.state_dict().items()
        )


NO_AUTOENCODERS = {
    "a tensor for a state": lambda _: {"state_dict": torch.zeros(2)},
    "a list for a state": lambda _: {"state_dict": [1]},
    "numbers for names": lambda _: {1: 2},
    "bytes for a tensor": lambda _: {"encoder.down_blocks.0.resnets.0.conv1.weight": b"x"},
    "whole numbers": lambda vae: {name: tensor.int() for name, tensor in vae.items()},
    "a sparse tensor": lambda vae: vae | {"encoder.conv_in.weight": vae["encoder.conv_in.weight"].to_sparse()},
    "a tensor without values": lambda vae: vae | {"encoder.conv_in.weight": vae["encoder.conv_in.weight"].to("meta")},
    "a dictionary in itself": lambda _: in_itself(),
    "a few dictionaries that are shared a billion times": lambda _: shared_ever_more(),
}


def shared_ever_more():
    inner = {"w": torch.zeros(1)}
    for _ in range(30):
        inner = {"a": inner, "b": inner}
    return inner


def in_itself():
    content = {}
    content["state_dict"] = content
    return content


@pytest.mark.parametrize("kind", NO_AUTOENCODERS)
def test_what_is_no_autoencoder_is_refused(files, refused, tmp_path, kind):
    torch.save(NO_AUTOENCODERS[kind](load_file(files["vae"])), tmp_path / "v.ckpt")
    assert "v.ckpt" in refused(vae=tmp_path / "v.ckpt")


WRONG_CODECS = {
    "scaling_factor": (None, "abc", [1], 0, -1.0, True, float("nan"), float("inf")),
    "layers_per_block": (10**6, 1.5, "x", True),
    "block_out_channels": ([8] * 10**6,),
    "_class_name": (["AutoencoderKL"], 5),
}


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, values in WRONG_CODECS.items() for v in values])
def test_a_wrong_configuration_of_an_autoencoder_is_refused(files, golden_dir, tmp_path, name, value):
    config = json.loads((golden_dir / "micro-vae-diffusers.json").read_text()) | {name: value}
    with pytest.raises(CheckpointError):
        build_codec(load_file(files["vae"]), config, source="v")


def test_blocks_without_end_of_a_bundled_autoencoder_are_refused():
    checkpoint = load_checkpoint(NANO_PATH)
    config = dict(checkpoint.codec_config) | {"num_decoder_blocks": [10**6, 3, 3, 1]}
    with pytest.raises(CheckpointError, match="num_decoder_blocks"):
        replace(checkpoint, codec_config=config).build_codec()


def test_a_configuration_that_is_nested_without_end_is_refused(files, tmp_path):
    shutil.copy(files["vae"], tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text("[" * 50_000)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_codec(tmp_path)


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
def test_a_model_of_wrong_parts_is_refused_by_its_name(files, refused, tmp_path, kind):
    content = WRONG_PARTS[kind](torch.load(files["ckpt"], weights_only=False))
    torch.save(content, tmp_path / "a.ckpt")
    assert f"{tmp_path / 'a.ckpt'}: " in refused(model=tmp_path / "a.ckpt")


def picture(**how):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, **how)
    return buffer.getvalue()


NO_PICTURES = {
    "empty.png": b"",
    "text.png": b"this is not a picture",
    "zeros.jpg": bytes(1000),
    "half.png": picture(format="PNG")[:40],
    "header.png": b"\x89PNG\r\n\x1a\n",
    "half.jpg": picture(format="JPEG")[:100],
    "half.webp": picture(format="WEBP")[:20],
    "half.tif": picture(format="TIFF")[:12],
    "half.gif": picture(format="GIF")[:10],
    "script.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "numbers.npy": np.lib.format.MAGIC_PREFIX + b"\x01\x00",
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_refused(refused, tmp_path, name):
    (tmp_path / name).write_bytes(NO_PICTURES[name])
    assert name in refused(photo=tmp_path / name)


def test_a_missing_picture_an_empty_folder_and_too_large_a_picture_are_refused(refused, tmp_path):
    refused(photo=tmp_path / "none.png")
    (tmp_path / "empty").mkdir()
    refused(photo=tmp_path / "empty")
    Image.new("1", (16385, 1)).save(tmp_path / "long.png")
    assert "16384" in refused(photo=tmp_path / "long.png")


WRONG_OPTIONS = [
    *(("--steps", value) for value in ("-1", "0", "1000000000", "1.5", "many", "")),
    *(("--solver", value) for value in ("euler2", "", "Euler", "dpm++")),
    *(("--grid", value) for value in ("log", "")),
    *(("--grid", "rho", "--rho", value) for value in ("0", "-2", "nan", "inf", "x")),
    *(("--solver", "dopri5", option, value) for option in ("--rtol", "--atol") for value in ("-1", "nan", "x")),
    *(("--solver", "dopri5", "--max-steps", value) for value in ("0", "-5")),
    *(("--ensemble", value) for value in ("0", "-1", "1000000000", "two")),
    *(("--reduction", value) for value in ("max", "")),
    *(("--seed", value) for value in ("-1", "18446744073709551616", "x")),
    *(("--resolution", value) for value in ("-1", "1000000000", "x")),
    *(("--noising-step", value) for value in ("-1", "1000", "x")),
    *(("--members-at-once", value) for value in ("-1", "x")),
    *(("--device", value) for value in ("tpu", "cuda:99", "", "cpu:x", "meta")),
    *(("--dtype", value) for value in ("int8", "float64", "")),
    *(("--attention", value) for value in ("flash", "")),
    *(("--save", value) for value in ("", "jpeg", "npy,", "uncertainty")),
    *(("--fov", value) for value in ("0", "180", "-5", "nan", "x")),
    *(("--colormap", value) for value in ("jet2", "")),
    *(("--normal-convention", value) for value in ("vulkan", "")),
    *(("--focal", value) for value in ("0", "-5", "nan", "x")),
    *(("--normal-strength", value) for value in ("0", "inf", "x")),
    *(("--normal-smoothing", value) for value in ("-1", "nan", "x")),
    *(("--normalization", value) for value in ("batch", "")),
    *(
        ("--normalization", "percentile", "--percentiles", *values)
        for values in (("50", "50"), ("-1", "9"), ("1", "x"))
    ),
    *(("--normalization", "fixed-range", "--range", *values) for values in (("1", "-1"), ("0", "inf"), ("1", "x"))),
    ("--model", "no-such-model"),
    ("--vae", "no-such-file"),
    ("--nonsense",),
]


@pytest.mark.parametrize("options", WRONG_OPTIONS, ids=" ".join)
def test_a_wrong_option_is_refused(refused, options):
    refused(*options)


EXTREME = {
    "one pixel": (1, 1, None),
    "one column": (1, 50, None),
    "two pixels": (2, 1, None),
    "a strip": (17, 4001, None),
    "a tower": (4001, 17, None),
    "black": (40, 30, 0),
    "white": (40, 30, 255),
    "grey": (33, 65, 128),
}


@pytest.mark.parametrize("kind", EXTREME)
@pytest.mark.parametrize("model", ["micro", "nano"])
def test_an_extreme_picture_gives_a_finite_map_of_its_size(files, tmp_path, model, kind):
    height, width, value = EXTREME[kind]
    random = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(random if value is None else np.full_like(random, value)).save(tmp_path / "photo.png")
    chosen = () if model == "nano" else ("--model", str(files["ckpt"]), "--vae", str(files["vae"]))
    output = ("--save", "npy,depth16,color", "--output", str(tmp_path / "out"))
    assert main(["predict", str(tmp_path / "photo.png"), *QUICK, *chosen, *output]) == 0
    depth = np.load(tmp_path / "out" / "photo.npy")
    assert depth.shape == (height, width) and depth.dtype == np.float32
    assert np.isfinite(depth).all() and 0 < depth.min() and depth.max() <= 1


@pytest.mark.parametrize(
    "image",
    [
        torch.full((1, 3, 8, 8), float("nan")),
        torch.full((1, 3, 8, 8), float("inf")),
        torch.full((1, 3, 8, 8), -1.0),
        torch.full((1, 3, 8, 8), 255.0),
        torch.zeros(1, 4, 8, 8),
        torch.zeros(3, 8, 8),
        torch.zeros(1, 3, 0, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.int64),
    ],
    ids=lambda x: f"{list(x.shape)} {x.dtype} {x.flatten()[:1].tolist()}",
)
def test_a_tensor_that_is_no_picture_is_refused(files, image):
    pipeline = load_pipeline(files["ckpt"], files["vae"])
    with pytest.raises(ValueError):
        pipeline(image, EstimationSettings(num_steps=1, processing_resolution=32))
