import io
import re
import shutil
import sys
from itertools import chain

import pytest
import torch

from depthfm_core import __main__
from depthfm_core.__main__ import main
from depthfm_core.cli import COMMANDS, predict
from depthfm_core.cli.errors import sentence
from depthfm_core.cli.idle import IDLE


@pytest.fixture
def unloadable(monkeypatch):
    """Fails the test if a model is loaded."""

    def load(_args):
        raise AssertionError("a model was loaded before the options were checked")

    monkeypatch.setattr(predict, "pipeline_from", load)


@pytest.fixture
def nothing(monkeypatch):
    """Estimates no picture, and needs no model for it."""
    monkeypatch.setattr(predict, "pipeline_from", lambda _args: None)
    monkeypatch.setattr(predict, "_predict_one", lambda *_args: None)


@pytest.mark.parametrize(
    "options",
    [
        ("--steps", "0"),
        ("--solver", "dopri5", "--rtol", "-1"),
        ("--solver", "dopri5", "--max-steps", "0"),
        ("--solver", "dopri5", "--max-steps", "1"),
        ("--grid", "rho", "--rho", "0"),
        ("--ensemble", "0"),
        ("--seed", "-1"),
        ("--noising-step", "1000"),
        ("--resolution", "-1"),
        ("--members-at-once", "-1"),
        ("--fov", "180"),
        ("--save", "uncertainty"),
        ("--save", "npy,jpeg"),
        ("--focal", "500", "--fov", "60"),
        ("--range", "-1", "1"),
        ("--percentiles", "5", "95", "--normalization", "fixed-range"),
    ],
    ids=" ".join,
)
def test_options_are_checked_before_a_model_is_loaded(saved, unloadable, options):
    lines, errors, folder = saved(*options, code=2)
    assert lines == [] and not folder.exists()
    assert errors.startswith("depthfm: ") and errors.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--steps", "0"),
        ("--ensemble", "0"),
        ("--seed", "-1"),
        ("--resolution", "-1"),
        ("--members-at-once", "-1"),
        ("--fov", "180"),
        ("--focal", "-1"),
        ("--normal-strength", "0"),
        ("--normal-smoothing", "-1"),
        ("--range", "1", "0", "--normalization", "fixed-range"),
        ("--percentiles", "5", "2", "--normalization", "percentile"),
    ],
    ids=" ".join,
)
def test_a_value_that_cannot_be_is_told_by_its_option_as_it_was_typed(saved, unloadable, options):
    assert saved(*options, code=2)[1].startswith(f"depthfm: {options[0]} ")


IDLE_OPTIONS = [
    (("--rho", "3"), "without --grid rho"),
    (("--rtol", "1e-5"), "without --solver dopri5"),
    (("--atol", "1e-5"), "without --solver dopri5"),
    (("--max-steps", "50"), "without --solver dopri5"),
    (("--grid", "rho", "--solver", "dopri5"), "with --solver dopri5"),
    (("--members-at-once", "4", "--ensemble", "5", "--solver", "dopri5"), "with --solver dopri5"),
    (("--members-at-once", "4"), "without --ensemble 2 or more"),
    (("--members-at-once", "4", "--solver", "dopri5"), "without --ensemble 2 or more"),
    (("--reduction", "median"), "without --ensemble 2 or more"),
    (("--average", "latents"), "without --ensemble 2 or more"),
    (("--no-align",), "without --ensemble 2 or more"),
    (("--seed", "1", "--noising-step", "0"), "with --noising-step 0"),
    (("--ensemble", "2", "--noising-step", "0"), "with --noising-step 0"),
    (("--noise-per-image", "--noising-step", "0"), "with --noising-step 0"),
    (("--noise-per-image",), "with one picture"),
    (("--colormap", "gray", "--save", "npy"), "without color in --save"),
    (("--normalization", "percentile", "--save", "npy"), "without color in --save"),
    (("--invert", "--save", "npy"), "without color or depth16 in --save"),
    (("--fov", "80"), "without normals or ply in --save"),
    (("--focal", "80"), "without normals or ply in --save"),
    (("--normal-convention", "directx", "--save", "ply"), "without normals in --save"),
    (("--normal-strength", "2"), "without normals in --save"),
    (("--normal-smoothing", "2"), "without normals in --save"),
]


@pytest.mark.parametrize(("options", "when"), IDLE_OPTIONS, ids=lambda value: " ".join(value))
def test_an_option_without_effect_is_told_on_one_line_and_nothing_else_changes(saved, nothing, options, when):
    assert saved(*options)[1] == f"depthfm: {options[0]} changes nothing {when}.\n"


def test_every_option_that_can_be_idle_is_tested():
    other_names = {"no_align": "align_members", "ensemble": "ensemble_size"}
    named = {option[2:].replace("-", "_") for (option, *_), _ in IDLE_OPTIONS}
    assert {*chain(*(idle.options for idle in IDLE))} == {other_names.get(name, name) for name in named}


@pytest.mark.parametrize(
    "options",
    [
        ("--rho", "2", "--rtol", "1e-3", "--reduction", "mean", "--members-at-once", "0", "--normal-strength", "1"),
        ("--ensemble", "3", "--reduction", "median", "--no-align", "--members-at-once", "1", "--average", "latents"),
        ("--solver", "dopri5", "--rtol", "1e-2", "--atol", "1e-3", "--max-steps", "50"),
        ("--grid", "rho", "--rho", "3", "--invert", "--colormap", "gray", "--normalization", "percentile"),
        ("--save", "normals", "--fov", "80", "--normal-convention", "directx", "--normal-smoothing", "2"),
        ("--save", "ply", "--focal", "80"),
        ("--normalization", "fixed-range", "--range", "-1", "1"),
        ("--noising-step", "1", "--seed", "1", "--ensemble", "2"),
    ],
    ids=" ".join,
)
def test_options_that_count_or_have_their_defaults_are_no_matter(saved, nothing, options):
    assert saved(*options)[1] == ""


def test_noise_of_its_own_counts_for_two_pictures(saved, nothing, photo, tmp_path):
    other = shutil.copy(photo, tmp_path / "other.png")
    assert saved("--noise-per-image", inputs=(photo, other))[1] == ""


def test_photographs_in_formats_that_are_not_read_are_told(saved, nothing, photo, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(photo, tmp_path / "in")
    assert saved(inputs=(tmp_path / "in",))[1] == ""
    for name in ("IMG_1.HEIC", "b.heic", "c.NEF", "notes.txt", ".hidden.heic"):
        (tmp_path / "in" / name).write_bytes(b"")
    told = f"{tmp_path / 'in'} has 3 photographs in formats that are not read (.heic, .nef); save as .jpg or .png."
    assert saved(inputs=(tmp_path / "in",))[1] == f"depthfm: {told}\n"
    (tmp_path / "in" / photo.name).unlink()
    assert saved(inputs=(tmp_path / "in",), code=2)[1].endswith(f"holds no pictures; {told}\n")


def test_inputs_are_checked_before_a_model_is_loaded(saved, unloadable, photo, tmp_path):
    (tmp_path / "empty").mkdir()
    shutil.copy(photo, tmp_path / "PHOTO.jpeg")
    shutil.copy(photo, tmp_path / "photo_color.png")
    (tmp_path / "file").write_text("")
    here = ("--output", str(tmp_path))
    assert "does not exist" in saved(inputs=(photo, tmp_path / "none.png"), code=2)[1]
    assert "no pictures" in saved(inputs=(tmp_path / "empty",), code=2)[1]
    shutil.copy(photo, tmp_path / f"{photo.stem}_uncertainty.png")
    both = ("--save", "npy,uncertainty", "--ensemble", "2")
    assert "both be saved as" in saved(*both, inputs=(photo, tmp_path / f"{photo.stem}_uncertainty.png"), code=2)[1]
    (tmp_path / f"{photo.stem}_uncertainty.png").unlink()
    assert "written over" in saved(*here, inputs=(photo, tmp_path / "photo_color.png"), code=2)[1]
    (tmp_path / "PHOTO.jpeg").unlink()
    assert "folder of the pictures" in saved(*here, inputs=(tmp_path,), code=2)[1]
    assert "is a file" in saved("--output", str(tmp_path / "file"), code=2)[1]


def test_the_pictures_folder_is_no_output_by_another_spelling_either(saved, unloadable, photo, tmp_path, caseless):
    for name in ("pictures", "PICTURES"):
        (tmp_path / name).mkdir(exist_ok=True)
    shutil.copy(photo, tmp_path / "pictures")
    _, errors, _ = saved("--output", str(tmp_path / "PICTURES"), inputs=(tmp_path / "pictures",), code=2)
    assert "folder of the pictures" in errors


def test_results_beside_a_picture_that_is_named_are_written_with_a_notice(saved, loaded, photo, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(photo, tmp_path / "in")
    here = ("--output", str(tmp_path / "in"), "--save", "npy")
    lines, errors, _ = saved(*here, inputs=(tmp_path / "in" / photo.name,))
    assert lines[0] == str(tmp_path / "in" / "photo.npy")
    assert "among the pictures" in errors and errors.count("\n") == 1
    assert saved("--save", "npy", inputs=(tmp_path / "in" / photo.name,))[1] == ""


def test_a_folder_that_cannot_be_made_is_told_once_and_before_any_estimation(saved, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "_predict_one", failing(AssertionError("a picture was estimated")))
    (tmp_path / "file").write_text("")
    lines, errors, _ = saved("--output", str(tmp_path / "file" / "depth"), code=2)
    assert lines == [] and "file" in errors and errors.count("\n") == 1


def test_a_folder_that_cannot_be_written_to_is_told_by_its_own_name_before_any_estimation(saved, loaded, read_only):
    lines, errors, folder = saved(code=2)
    assert errors == f"depthfm: --output {folder} cannot be written to (Read-only file system); name another folder.\n"
    assert lines == [] and not folder.exists()


def failing(error):
    def run(*_args, **_kwargs):
        raise error

    return run


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        MemoryError(),
        RuntimeError("can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    ],
    ids=repr,
)
def test_too_little_memory_comes_with_advice(saved, monkeypatch, error):
    monkeypatch.setattr(predict, "pipeline_from", lambda _args: failing(error))
    _, errors, folder = saved(code=2)
    assert "photo.png: There is not enough memory" in errors and "--resolution" in errors and not folder.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_what_to_do_about_memory_names_options_and_keys_of_the_command_that_ran_out_of_it(command, monkeypatch, capsys):
    out_of_memory = failing(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    with pytest.raises(SystemExit):
        main([command, "--help"])
    offered = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    monkeypatch.setattr(__main__, "_parser", lambda _argv: out_of_memory())
    assert main([command]) == 2
    advice = capsys.readouterr().err
    assert "There is not enough memory" in advice and set(re.findall(r"--[a-z-]+", advice)) <= offered
    assert ("micro_batch_size" in advice) == (command == "train")


def test_an_interrupt_ends_with_130_and_leaves_nothing(saved, monkeypatch):
    monkeypatch.setattr(predict, "pipeline_from", lambda _args: failing(KeyboardInterrupt()))
    _, errors, folder = saved(code=130)
    assert errors == "depthfm: interrupted.\n" and not folder.exists()


def test_traceback_shows_where_an_error_comes_from(saved, monkeypatch):
    monkeypatch.setattr(predict, "pipeline_from", lambda _args: failing(RuntimeError("deep inside")))
    with pytest.raises(RuntimeError, match="deep inside"):
        saved("--traceback")
    with pytest.raises(ValueError, match="seed"):
        saved("--traceback", "--seed", "-1")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert COMMANDS[command] in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["paint"], ["--nonsense"], ["predict", "--step", "3"]], ids=" ".join)
def test_an_unusable_command_line_is_one_sentence(arguments, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("depthfm: ") and printed.err.count("\n") == 1 and printed.out == ""


@pytest.mark.parametrize(
    ("started", "prog"),
    [("/somewhere/depthfm_core/__main__.py", "python -m depthfm_core"), ("/somewhere/bin/depthfm", "depthfm")],
)
def test_help_is_pointed_to_by_the_command_that_was_typed(started, prog, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [started])
    assert main(["predict", "--step", "3"]) == 2
    assert f"see `{prog} --help`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "install"), [("diffusers", "-e .`"), ("PIL.Image", "-e .`"), ("numba", '-e ".[train]"`')]
)
def test_a_missing_package_comes_with_the_installation_that_brings_it_and_no_more(package, install):
    assert f"package {package}, which is not installed; `pip install {install}" in sentence(
        ModuleNotFoundError("gone", name=package)
    )


def test_a_missing_package_is_named_but_a_missing_part_of_this_one_is_a_fault(monkeypatch, capsys):
    monkeypatch.setattr(__main__, "import_module", failing(ModuleNotFoundError("gone", name="numba")))
    assert main(["synth", "out"]) == 2
    assert "package numba" in capsys.readouterr().err
    monkeypatch.setattr(__main__, "import_module", failing(ModuleNotFoundError("gone", name="depthfm_core.cli.x")))
    with pytest.raises(ModuleNotFoundError):
        main(["synth", "out"])


def test_a_name_that_the_console_cannot_show_is_no_error(saved, loaded, photo, tmp_path, monkeypatch):
    shutil.copy(photo, tmp_path / "caf\u00e9.png")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    _, _, folder = saved("--save", "npy", inputs=(tmp_path / "caf\u00e9.png",))
    assert [path.name for path in folder.iterdir()] == ["caf\u00e9.npy"]
    assert b"caf\\xe9.npy" in stream.buffer.getvalue()  # shown before the end: lines are not held back
