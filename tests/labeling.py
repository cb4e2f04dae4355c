"""Photographs to label, the fixtures that label them, and what lies in a folder afterwards."""

import json

import numpy as np
import pytest
from PIL import Image

from depthfm_core.__main__ import main
from depthfm_core.cli import label
from depthfm_core.evaluation.baselines import Method

NAMES = ("a.jpg", "b.png", "sub/a.jpg", "sub/c.webp", "z.jpeg")
QUICK = ("--resolution", "32", "--steps", "1")


def save_photo(path, seed, size=(36, 52), **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, **how)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed, name in enumerate(NAMES):
        save_photo(folder / name, seed)
    (folder / "notes.txt").write_text("no photograph", encoding="utf-8")
    save_photo(folder / ".thumbnails/a.jpg", 0)
    return folder


@pytest.fixture
def labeled(photos, tmp_path, capsys):
    """Runs `label` on the photographs; gives the folder, labels.json (None without one) and what was said."""

    def run(*options, teacher="nano", folder=photos, output="labels", code=0):
        output = tmp_path / output
        quick = QUICK if teacher == "nano" else ()
        command = ["label", str(folder), "--teacher", teacher, "--output", str(output), *quick, *options]
        assert main(command) == code
        facts = output / "labels.json"
        return output, json.loads(facts.read_text(encoding="utf-8")) if facts.exists() else None, capsys.readouterr()

    return run


@pytest.fixture
def seen(monkeypatch):
    """The pictures that a teacher saw, which says 100 m + the picture's mean; `stop_at` interrupts that call."""

    class Seen(list):
        stop_at = None

    calls = Seen()

    def estimate(image):
        calls.append(image)
        if len(calls) == calls.stop_at:
            raise KeyboardInterrupt
        return 100 + image.mean(1), 1

    monkeypatch.setattr(label, "load_method", lambda _name, _options: Method("far", "depth_m", estimate))
    return calls


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def data(folder):
    """The files of the data set, without the two that describe it."""
    return {name: content for name, content in files(folder).items() if not name.endswith(".json")}
