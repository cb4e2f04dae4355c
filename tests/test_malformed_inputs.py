"""What is no picture, wrong options and extreme pictures: one sentence and exit code 2, or a finite map of its size."""

import io
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core import EstimationSettings, load_pipeline
from depthfm_core.__main__ import main
from depthfm_core.depth.align import ALIGNMENTS, align
from depthfm_core.depth.normals import normals_from_depth
from depthfm_core.evaluation.boundaries import boundary_scores
from depthfm_core.evaluation.metrics import measure
from depthfm_core.evaluation.uncertainty import measure_uncertainty
from depthfm_core.flow import combine_members

from .malformed import QUICK


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
def test_an_extreme_picture_gives_a_finite_map_of_its_size(good_files, tmp_path, model, kind):
    height, width, value = EXTREME[kind]
    random = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(random if value is None else np.full_like(random, value)).save(tmp_path / "photo.png")
    chosen = () if model == "nano" else ("--model", str(good_files["ckpt"]), "--vae", str(good_files["vae"]))
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
def test_a_tensor_that_is_no_picture_is_refused(good_files, image):
    pipeline = load_pipeline(good_files["ckpt"], good_files["vae"])
    with pytest.raises(ValueError):
        pipeline(image, EstimationSettings(num_steps=1, processing_resolution=32))


MAPS = torch.ones(0, 1, 4, 5), torch.ones(0, 1, 4, 5), torch.ones(0, 1, 4, 5, dtype=torch.bool)
WITHOUT_PICTURES = {
    **{f"align {name}": partial(align, *MAPS, name) for name in ALIGNMENTS},
    "measure": partial(measure, *MAPS),
    "boundaries": partial(boundary_scores, *MAPS),
    "uncertainty": partial(measure_uncertainty, *MAPS),
    "normals": partial(normals_from_depth, MAPS[0]),
    "ensemble": partial(combine_members, torch.ones(0, 3, 1, 4, 5)),
    "ensemble without members": partial(combine_members, torch.ones(2, 0, 1, 4, 5)),
}


@pytest.mark.parametrize("of", WITHOUT_PICTURES)
def test_a_batch_without_pictures_is_refused(of):
    with pytest.raises(ValueError, match="at least one picture"):
        WITHOUT_PICTURES[of]()
