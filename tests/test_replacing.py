"""A file takes its place whole, and what a killed process left of it goes without harm to what others write."""

import json
import os

import pytest
import torch

from depthfm_core import replacing as module
from depthfm_core.replacing import (
    OutputError,
    remove_folder,
    remove_leftovers,
    replacing,
    replacing_folder,
    write_json,
    write_text,
)
from depthfm_core.training.shards import open_shard, write_shard

LONG = "photos_of_the_old_town_in_the_summer_of_2024"


def leave_half_written(path):
    """What a process that was killed while it wrote `path` leaves there."""
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        raise KeyboardInterrupt
    temporary.write_bytes(b"half")
    return temporary


def views():
    latent = torch.zeros(2, 4, 3, 5).half()
    return {"image_latent": latent, "depth_latent": latent.clone(), "valid": torch.zeros(2, 3, 5, dtype=torch.uint8)}


def test_two_shards_of_a_long_name_may_be_written_at_once(tmp_path):
    first, second = (tmp_path / f"{LONG}-{index:04d}.safetensors" for index in range(2))
    with replacing(first) as temporary:
        temporary.write_bytes(b"first")
        write_shard(second, views(), {})
    assert first.read_bytes() == b"first"
    assert len(open_shard(second)) == 2


@pytest.mark.parametrize(
    "name", ["state.pt", f"{LONG}.pt", "[a]*.pt", "\u6df1\u5ea6.pt", "\U0001f6aa" * 60, "\udcff.pt"]
)
def test_leftovers_of_a_file_go_and_those_of_others_stay(tmp_path, name):
    path, other = tmp_path / name, tmp_path / f"{name}x"
    try:
        leave_half_written(path)
    except OSError:
        pytest.skip("this disk has no such names")
    kept = leave_half_written(other)
    remove_leftovers(path)
    assert list(tmp_path.iterdir()) == [kept]


def test_text_comes_back_as_utf_8_and_replaces_an_older_file_only_when_whole(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "\u6df1")
    assert (tmp_path / "a.txt").read_bytes() == "\u6df1".encode()
    monkeypatch.setattr(module.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("in use")))
    with pytest.raises(OutputError, match="Cannot write.*in use"):
        write_text(tmp_path / "a.txt", "new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.txt", "\u6df1".encode())]


def test_json_comes_back_and_a_folder_that_is_not_there_is_named(tmp_path):
    content = {"name": "\u6df1", "scores": [0.5, None], "nested": {"a": 1}}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == content
    with pytest.raises(OutputError, match="the folder .*nowhere does not exist; make it first"):
        write_json(tmp_path / "nowhere" / "a.json", content)


def test_of_two_processes_that_write_a_folder_the_quicker_ones_stays(tmp_path, monkeypatch):
    def quicker(_temporary, path):
        path.mkdir()
        raise OSError("Directory not empty")

    monkeypatch.setattr(os, "replace", quicker)
    with replacing_folder(tmp_path / "graph"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "graph"]


@pytest.fixture
def held(monkeypatch):
    """A program under Windows that holds what is to be renamed for so many tries, of which it gives the sources."""
    monkeypatch.setattr(module.sys, "platform", "win32")
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: None)
    rename = os.replace

    def hold(count, holds=lambda _source: True):
        tries = []

        def refuse(source, target):
            if holds(source) and len(tries) < count:
                tries.append(source)
                raise PermissionError(13, "in use")
            rename(source, target)

        monkeypatch.setattr(os, "replace", refuse)
        return tries

    return hold


def test_a_file_that_a_scanner_holds_for_a_moment_is_waited_for(tmp_path, held):
    write_text(tmp_path / "a.txt", "old")
    tries = held(3)
    write_text(tmp_path / "a.txt", "new")
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["new"] and len(tries) == 3


def test_a_file_that_is_held_for_long_is_an_error_and_stays(tmp_path, held):
    write_text(tmp_path / "a.txt", "old")
    held(10**6)
    with pytest.raises(OutputError, match="Cannot write.*in use"):
        write_text(tmp_path / "a.txt", "new")
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["old"]


def write_folder(path, text, *more):
    with replacing_folder(path) as temporary:
        for name in ("a", "b", *more):
            (temporary / name).write_text(text, encoding="utf-8")


def texts(folder):
    """The texts of the files below a folder, by their paths."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


def test_a_folder_takes_the_place_of_an_older_one_whole_and_goes_whole(tmp_path):
    write_folder(tmp_path / "graph", "old", "c")
    write_folder(tmp_path / "graph", "new")
    assert texts(tmp_path) == {"graph/a": "new", "graph/b": "new"}
    remove_folder(tmp_path / "graph")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("which", ["new", "old"])  # by a scanner, or by who reads it
def test_where_a_folder_is_held_the_old_one_stays_whole(tmp_path, held, which):
    write_folder(tmp_path / "graph", "old")
    held(10**6, lambda source: source.is_dir() and (source / "a").read_text(encoding="utf-8") == which)
    with pytest.raises(PermissionError, match="in use"):
        write_folder(tmp_path / "graph", "new")
    assert texts(tmp_path) == {"graph/a": "old", "graph/b": "old"}


def test_a_folder_that_is_held_is_not_removed_by_half(tmp_path, held):
    write_folder(tmp_path / "graph", "old")
    held(10**6)
    with pytest.raises(PermissionError, match="in use"):
        remove_folder(tmp_path / "graph")
    assert texts(tmp_path) == {"graph/a": "old", "graph/b": "old"}


def test_a_folder_that_cannot_take_its_place_is_an_error(tmp_path, monkeypatch):
    def refused(_temporary, _path):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(OSError, match="No space left"), replacing_folder(tmp_path / "graph"):
        pass
    assert not list(tmp_path.iterdir())
