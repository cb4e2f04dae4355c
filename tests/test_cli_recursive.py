"""`predict --recursive`: the pictures of folders inside folders, and where their results go."""

import os
import shutil

import pytest

from depthfm_core.__main__ import main
from depthfm_core.cli import predict
from depthfm_core.cli.inputs import expand_wildcards


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def holiday(photo, tmp_path):
    """A function that makes a folder, by name, with copies of the photo under these names."""

    def make(*names, folder="holiday"):
        for name in names:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, tmp_path / folder / name)
        return tmp_path / folder

    return make


@pytest.fixture
def found(monkeypatch, tmp_path, capsys):
    """Runs `predict --recursive` and estimates nothing: what it would have, as picture -> name of its results."""
    estimated = {}
    monkeypatch.setattr(predict, "pipeline_from", lambda _args: None)
    monkeypatch.setattr(predict, "_predict_one", lambda path, name, *_others: estimated.update({path: name}))

    def run(*arguments, code=0):
        estimated.clear()
        assert main(["predict", "--recursive", *map(str, arguments)]) == code
        pictures = {path.relative_to(tmp_path).as_posix(): name for path, name in estimated.items()}
        return pictures, capsys.readouterr().err

    return run


def test_results_lie_in_folders_of_the_same_names(saved, loaded, holiday):
    folder = holiday("a.png", "2024/a.png", "2024/May/a.png", "2025/b.png")
    lines, errors, output = saved("--recursive", "--save", "npy,color", inputs=(folder,))
    names = ["2024/May/a", "2024/a", "2025/b", "a"]
    assert files_in(output) == sorted(f"{name}{ending}" for name in names for ending in (".npy", "_color.png"))
    assert errors == "" and str(output / "2024" / "May" / "a_color.png") in lines
    assert files_in(saved("--save", "npy", inputs=(folder,))[2]) == ["a.npy"]


def test_a_second_run_takes_no_results_of_the_first(saved, loaded, holiday):
    folder = holiday("a.png", "2024/b.png")
    output = folder / "2024" / "depth"
    options = ("--recursive", "--output", str(output), "--save", "color")
    first = saved(*options, inputs=(folder,))[0]
    once = files_in(folder)
    (output / "b_depth.exr").touch()  # which would be told as a photograph in a format that is not read
    second, errors, _ = saved(*options, inputs=(folder,))
    (output / "b_depth.exr").unlink()
    assert files_in(folder) == once == ["2024/b.png", "2024/depth/2024/b_color.png", "2024/depth/a_color.png", "a.png"]
    assert len(first) == len(second) == 4 and errors == ""


def test_of_the_folders_only_hidden_ones_and_the_output_are_left_out(found, holiday):
    holiday("a.png", ".b.png", ".thumbnails/c.png", "2024/.trash/x/d.png", "depth/e.png", "depth/x/f.png")
    folder = holiday("2024/depth/g.png", "depths/h.png", "2024/notes.txt")
    taken = {"holiday/2024/depth/g.png": "2024/depth/g", "holiday/a.png": "a", "holiday/depths/h.png": "depths/h"}
    assert found(folder, "--output", folder / "depth") == (taken, "")
    assert found(folder, "--output", folder / "2024" / ".." / "depth") == (taken, "")


def test_the_output_is_left_out_by_another_spelling_too(found, holiday, caseless):
    folder = holiday("a.png", "depth/b.png", "DEPTH/c.png")  # one folder, on disks that take them for one
    assert found(folder, "--output", folder / "DEPTH")[0] == {"holiday/a.png": "a"}


def test_the_output_is_left_out_through_a_link_too(found, holiday, tmp_path):
    folder = holiday("a.png", "depth/b.png")
    try:
        (tmp_path / "link").symlink_to(folder / "depth", target_is_directory=True)
    except OSError:
        pytest.skip("links need a right that this user does not have")
    assert found(folder, "--output", tmp_path / "link")[0] == {"holiday/a.png": "a"}


def test_names_that_are_alike_within_a_folder_are_told_apart_and_others_are_not_touched(found, holiday):
    folder = holiday("a.jpg", "2024/a.jpg", "2024/a.png", "2024/b.png")
    names = found(folder, "--output", folder / "out")[0].values()
    assert sorted(names) == ["2024/a.jpg", "2024/a.png", "2024/b", "a"]


def test_folders_of_one_name_in_two_inputs_share_one_and_no_file(found, holiday, tmp_path):
    inputs = holiday("2024/a.png", "2024/b.png", folder="in"), holiday("2024/a.png", folder="other")
    names = found(*inputs, "--output", tmp_path / "out")[0]
    told_apart = {"in/2024/a.png": "2024/in_2024_a", "other/2024/a.png": "2024/other_2024_a"}
    assert names == told_apart | {"in/2024/b.png": "2024/b"}
    if not (tmp_path / "IN").exists():  # a disk that knows `2024x` and `2024X`
        inputs = holiday("x/a.png", folder="in2"), holiday("X/a.png", folder="other2")
        assert sorted(found(*inputs, "--output", tmp_path / "out")[0].values()) == ["X/other2_X_a", "x/in2_x_a"]


def test_a_picture_that_is_named_and_found_is_estimated_once(found, holiday, tmp_path):
    folder = holiday("2024/a.png", "2024/b.png")
    names = found(folder, folder / "2024" / "a.png", folder / "2024", "--output", tmp_path / "out")[0]
    assert names == {"holiday/2024/a.png": "2024/a", "holiday/2024/b.png": "2024/b"}


@pytest.mark.parametrize("output", ["holiday", ".", "holiday/holiday/.."])
def test_an_output_whose_results_would_be_taken_for_pictures_is_refused(found, holiday, tmp_path, output):
    folder = holiday("a.png", "holiday/b.png")  # in "." it would become holiday/b_color.png
    pictures, errors = found(folder, "--output", tmp_path / output, code=2)
    assert pictures == {} and "folder of the pictures" in errors and errors.count("\n") == 1


def test_the_folder_that_the_pictures_folder_lies_in_is_an_output_like_others(found, holiday, tmp_path):
    folder = holiday("a.png", "2024/b.png")
    assert found(folder, "--output", tmp_path) == ({"holiday/a.png": "a", "holiday/2024/b.png": "2024/b"}, "")


def test_without_it_a_folder_whose_pictures_lie_deeper_asks_for_it(saved, holiday):
    folder = holiday("2024/May/a.png")
    _, errors, output = saved(inputs=(folder,), code=2)
    told = f"{folder} holds no pictures itself, but the folders in it do; add --recursive to take those."
    assert errors == f"depthfm: {told}\n" and not output.exists()


@pytest.mark.parametrize("name", ["notes.txt", ".hidden/a.png", "depth/a.png"])
def test_a_folder_without_pictures_to_be_found_is_told_as_ever(found, saved, holiday, name):
    folder = holiday(name)
    output = ("--output", str(folder / "depth"))
    for errors in (saved(*output, inputs=(folder,), code=2)[1], found(folder, *output, code=2)[1]):
        assert "holds no pictures; name files" in errors and "--recursive" not in errors


def test_wildcards_that_the_shell_left_stand_for_files_and_a_path_that_is_there_for_itself(holiday):
    folder = holiday("b.jpg", "a.jpg", "ab.jpg", "c.png", "[1]/d.jpg", "1/e.jpg", "odd[2].jpg")
    assert expand_wildcards([folder / "*.jpg"]) == [
        folder / name for name in ("a.jpg", "ab.jpg", "b.jpg", "odd[2].jpg")
    ]
    assert expand_wildcards([folder / "c.png", folder / "?.jpg"]) == [folder / n for n in ("c.png", "a.jpg", "b.jpg")]
    assert expand_wildcards([folder / "[1]" / "*.jpg"]) == [folder / "[1]" / "d.jpg"]
    assert expand_wildcards([folder / "odd[2].jpg", folder]) == [folder / "odd[2].jpg", folder]


@pytest.mark.skipif(os.name == "nt", reason="names hold no * there")
def test_a_file_whose_name_holds_a_star_is_taken_for_itself(holiday):
    folder = holiday("*.jpg", "a.jpg")
    assert expand_wildcards([folder / "*.jpg"]) == [folder / "*.jpg"]


def test_predict_takes_what_a_wildcard_stands_for_and_says_where_nothing_matches(found, holiday, tmp_path):
    folder = holiday("a.png", "b.png", "c.txt")
    output = ("--output", tmp_path / "out")
    assert found(folder / "*.png", *output)[0] == {"holiday/a.png": "a", "holiday/b.png": "b"}
    assert f"Nothing matches {folder / '*.gif'}" in found(folder / "*.gif", *output, code=2)[1]


def test_an_address_is_said_not_to_be_fetched(found):
    assert (
        "a.jpg?size=* has an address, and these are not fetched; save the picture"
        in found("https://example.com/a.jpg?size=*", code=2)[1]
    )


def test_a_result_folder_that_cannot_be_written_to_is_told_before_any_estimation(found, holiday, tmp_path):
    folder, output = holiday("a.png", "2024/b.png"), tmp_path / "out"
    output.mkdir()
    (output / "2024").write_text("")
    pictures, errors = found(folder, "--output", output, code=2)
    assert pictures == {} and f"--output {output / '2024'} cannot be written to" in errors
    assert errors.count("\n") == 1 and files_in(output) == ["2024"]


def test_photographs_that_are_not_read_are_told_of_all_folders(found, holiday, tmp_path):
    folder = holiday("a.png", "2024/b.heic", "2024/May/c.NEF", ".hidden/d.heic")
    output = ("--output", tmp_path / "out")
    assert f"{folder} has 2 photographs in formats that are not read" in found(folder, *output)[1]
    (folder / "a.png").unlink()
    assert f"holds no pictures; {folder} has 2 photographs in formats" in found(folder, *output, code=2)[1]


def test_without_a_folder_it_is_told_that_it_changes_nothing(found, photo, tmp_path):
    pictures, errors = found(photo, "--output", tmp_path / "out")
    assert pictures == {"photo.png": "photo"} and errors == "depthfm: --recursive changes nothing without a folder.\n"
