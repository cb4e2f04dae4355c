import argparse
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core import EstimationSettings
from depthfm_core.cli import arguments, predict
from depthfm_core.cli.outputs import OUTPUTS
from depthfm_core.depth.color import colorize
from depthfm_core.depth.controlnet import controlnet_image
from depthfm_core.depth.files import read_image
from depthfm_core.depth.normals import normals_to_image
from depthfm_core.depth.predicted_normals import predicted_normals

HEIGHT, WIDTH = 36, 52
SETTINGS = EstimationSettings(processing_resolution=32, num_steps=2)


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def depth_of(folder):
    return np.load(folder / "photo.npy")


def pixels(path):
    return np.asarray(Image.open(path))


def test_predict_writes_depth_and_color_and_says_so(saved, loaded):
    lines, errors, folder = saved()
    assert names(folder) == ["photo_color.png", "photo_depth16.png"]
    assert lines[:2] == [str(folder / "photo_depth16.png"), str(folder / "photo_color.png")]
    assert f"{WIDTH} x {HEIGHT}" in lines[2] and "2 network calls" in lines[2] and len(lines) == 3
    assert errors == ""


def test_every_kind_of_output_holds_its_view_of_the_prediction(saved, loaded, photo, cli_pipeline):
    _, _, folder = saved("--save", ",".join(OUTPUTS), "--ensemble", "2")
    prediction = cli_pipeline(read_image(photo), replace(SETTINGS, ensemble_size=2))
    relative = prediction.relative_depth[0, 0].numpy()
    assert names(folder) == sorted(f"photo{ending}" for output in OUTPUTS.values() for ending in output.files)
    for name in ("photo.npy", "photo_uncertainty.npy"):
        assert np.load(folder / name).dtype == np.float32
    np.testing.assert_array_equal(depth_of(folder), relative)
    np.testing.assert_array_equal(np.load(folder / "photo_uncertainty.npy"), prediction.uncertainty[0, 0].numpy())
    np.testing.assert_array_equal(pixels(folder / "photo_depth.tiff"), relative)
    for name, values in (("depth16", prediction.depth), ("disparity", prediction.disparity)):
        assert pixels(folder / f"photo_{name}.png").dtype == np.uint16
        np.testing.assert_array_equal(pixels(folder / f"photo_{name}.png"), (values[0, 0] * 65535).round().numpy())
    normals = normals_to_image(predicted_normals(prediction))
    views = {"color": colorize(prediction.depth), "normals": normals, "controlnet": controlnet_image(prediction)}
    views["uncertainty"] = colorize(prediction.uncertainty / prediction.uncertainty.max(), "magma")
    for name, view in views.items():
        expected = (view[0] * 255).round().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(pixels(folder / f"photo_{name}.png"), expected)


def test_exr_holds_relative_depth(saved, loaded):
    openexr = pytest.importorskip("OpenEXR")
    _, _, folder = saved("--save", "npy,exr")
    with openexr.File(str(folder / "photo_depth.exr")) as file:
        np.testing.assert_array_equal(file.channels()["Y"].pixels, depth_of(folder))


# Options that change the depth, each beside those with which it is compared.
DEPTH_OPTIONS = {
    "--steps": ((), ("--steps", "3")),
    "--solver": ((), ("--solver", "heun")),
    "--grid": ((), ("--grid", "rho")),
    "--rho": (("--grid", "rho"), ("--grid", "rho", "--rho", "3")),
    "--rtol": (("--solver", "dopri5"), ("--solver", "dopri5", "--rtol", "9")),
    "--atol": (("--solver", "dopri5", "--rtol", "0"), ("--solver", "dopri5", "--rtol", "0", "--atol", "0.3")),
    "--ensemble": ((), ("--ensemble", "2")),
    "--reduction": (("--ensemble", "3"), ("--ensemble", "3", "--reduction", "median")),
    "--average": (("--ensemble", "3"), ("--ensemble", "3", "--average", "latents")),
    "--no-align": (("--ensemble", "3"), ("--ensemble", "3", "--no-align")),
    "--seed": ((), ("--seed", "1")),
    "--noising-step": ((), ("--noising-step", "0")),
    "--resolution": ((), ("--resolution", "48")),
    "--sharpen-edges": ((), ("--sharpen-edges",)),
    "--no-sharpen-edges": (("--sharpen-edges",), ("--no-sharpen-edges",)),
}
VIEW_OPTIONS = {
    "--colormap": ("color", ("--colormap", "gray")),
    "--invert": ("color", ("--invert",)),
    "--fov": ("normals", ("--fov", "100")),
    "--normal-convention": ("normals", ("--normal-convention", "directx")),
    "--focal": ("normals", ("--focal", "20")),
    "--normal-strength": ("normals", ("--normal-strength", "3")),
    "--normal-smoothing": ("normals", ("--normal-smoothing", "4")),
    "--normalization": ("color", ("--normalization", "fixed-range")),
    "--percentiles": ("color", ("--normalization", "percentile", "--percentiles", "30", "60")),
    "--range": ("color", ("--normalization", "fixed-range", "--range", "-0.5", "0.1")),
}
MODEL_OPTIONS = {
    "--model": ("--model", "FOLDER/depthfm-micro-headdim16.ckpt"),
    "--dtype": ("--dtype", "bfloat16"),
    "--attention": ("--attention", "rescaled"),
}
# Options with tests of their own, below.
OTHER_OPTIONS = {"--save", "--output", "--device", "--vae", "--max-steps", "--members-at-once", "--traceback"}
OTHER_OPTIONS |= {"--noise-per-image", "--backend", "--decoder", "--compile"}  # backend in test_openvino.py
OTHER_OPTIONS |= {"--recursive"}  # in test_cli_recursive.py


@pytest.mark.parametrize("option", DEPTH_OPTIONS)
def test_an_estimation_option_changes_the_depth(saved, loaded, option):
    before, after = (depth_of(saved("--save", "npy", *options)[2]) for options in DEPTH_OPTIONS[option])
    assert before.shape == after.shape == (HEIGHT, WIDTH)
    assert np.abs(before - after).max() > 1e-4


def test_the_second_picture_has_the_first_ones_noise_or_the_next_seeds(saved, loaded, photo, tmp_path):
    first = tmp_path / "first.png"
    shutil.copy(photo, first)
    shared, own = (
        depth_of(saved("--save", "npy", *options, inputs=(first, photo))[2]) for options in ((), ("--noise-per-image",))
    )
    alone, next_seed = (depth_of(saved("--save", "npy", "--seed", seed)[2]) for seed in ("0", "1"))
    assert np.array_equal(shared, alone)
    assert np.array_equal(own, next_seed)


@pytest.mark.parametrize("option", VIEW_OPTIONS)
def test_a_view_option_changes_its_view(saved, loaded, option):
    kind, options = VIEW_OPTIONS[option]
    before, after = (pixels(saved("--save", kind, *o)[2] / f"photo_{kind}.png") for o in ((), options))
    assert not np.array_equal(before, after)


def test_invert_swaps_near_and_far(saved, loaded):
    near_dark, near_bright = (pixels(saved(*o)[2] / "photo_depth16.png").astype(int) for o in ((), ("--invert",)))
    assert near_dark.min() == 0 and near_dark.max() == 65535
    assert np.abs(near_dark + near_bright - 65535).max() <= 1


@pytest.mark.parametrize("option", MODEL_OPTIONS)
def test_a_model_option_changes_the_depth(saved, loaded, cli_model, golden_dir, monkeypatch, option):
    before = depth_of(saved("--save", "npy")[2])
    monkeypatch.setattr(predict, "pipeline_from", arguments.pipeline_from)
    name, value = MODEL_OPTIONS[option]
    after = depth_of(saved("--save", "npy", *cli_model, name, value.replace("FOLDER", str(golden_dir)))[2])
    assert np.abs(before - after).max() > 1e-4


def test_every_option_of_predict_is_tested():
    parser = argparse.ArgumentParser(add_help=False)
    predict.add_arguments(parser)
    offered = {option for action in parser._actions for option in action.option_strings} | {"--traceback"}
    assert offered == {*DEPTH_OPTIONS, *VIEW_OPTIONS, *MODEL_OPTIONS} | OTHER_OPTIONS


def test_every_setting_has_an_option_whose_default_is_the_settings_own():
    parser = argparse.ArgumentParser()
    arguments.add_estimation_arguments(parser)
    assert set(arguments.ESTIMATION_OPTIONS) == {field.name for field in fields(EstimationSettings)}
    assert arguments.estimation_settings(parser.parse_args([])) == EstimationSettings()


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ((), 2),
        (("--solver", "heun", "--steps", "3"), 6),
        (("--ensemble", "3", "--members-at-once", "1"), 6),
        (("--ensemble", "3", "--members-at-once", "2"), 4),
        (("--ensemble", "3", "--members-at-once", "3"), 2),
    ],
)
def test_the_number_of_network_calls_is_reported(saved, loaded, options, calls):
    lines, _, _ = saved(*options)
    assert lines[-1].endswith(f" {calls} network calls")


def test_the_adaptive_solver_stops_at_its_step_limit(saved, loaded):
    tight = ("--solver", "dopri5", "--rtol", "1e-7", "--atol", "1e-7", "--max-steps", "3")
    _, errors, folder = saved(*tight, code=2)
    assert "photo.png" in errors and "max_steps" in errors and errors.count("\n") == 1
    assert names(folder) == []


def test_a_model_without_an_autoencoder_asks_for_one(saved, cli_model):
    _, errors, folder = saved(*cli_model[:2], code=2)
    assert "--vae" in errors and not folder.exists()


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_device_is_the_best_there_is_unless_it_is_named(monkeypatch, cuda, mps, device):
    parser = argparse.ArgumentParser()
    arguments.add_model_arguments(parser)
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(arguments, "load_pipeline", lambda *given, **_named: asked.append(given[2]))
    for options in ([], ["--device", "cuda:1"]):
        arguments.pipeline_from(parser.parse_args(options))
    assert asked == [device, "cuda:1"]
