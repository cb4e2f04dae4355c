"""Fixtures of the tests of `evaluate`: pictures with depth, and the command on them."""

import json

import numpy as np
import pytest
from PIL import Image

from depthfm_core.__main__ import main

SIZE = (40, 48)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Three pictures whose depth is a ramp in log depth down the rows, and one without measured depth."""
    folder = tmp_path_factory.mktemp("pairs")
    log_depth = np.linspace(1.5, 0, SIZE[0])[:, None] + np.zeros(SIZE)
    for index, name in enumerate(("a", "b", "c", "empty")):
        (folder / name).mkdir()
        pixels = np.random.default_rng(index).integers(0, 255, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name / "image.png")
        depth_m = np.exp(log_depth + 0.05 * index).astype(np.float32) * (name != "empty")
        np.save(folder / name / "depth.npy", depth_m)
    return folder


@pytest.fixture
def evaluated(pairs, tmp_path, capsys):
    """Runs `evaluate` on the pairs; gives the folder, the report's JSON and what was printed."""

    def run(*options, output="out", code=0):
        folder = tmp_path / output
        assert main(["evaluate", "--dataset", str(pairs), "--output", str(folder), *options]) == code
        printed = capsys.readouterr()
        if code:
            return printed.err
        return folder, json.loads((folder / "report.json").read_text(encoding="utf-8")), printed.out

    return run


def method(report, name):
    return next(found for found in report["methods"] if found["name"] == name)
