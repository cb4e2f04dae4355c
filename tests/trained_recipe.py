"""The output of a toy recipe, which several tests look at and go on from."""

import pytest

from depthfm_core.__main__ import main
from depthfm_core.training.recipe import read_recipe

from .test_training_recipe import TOY, write_toy, write_toy_frames


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The output folder of a toy recipe, made by the command; nothing in it is changed."""
    folder = tmp_path_factory.mktemp("trained")
    write_toy_frames(folder / "out")
    assert main(["train", str(write_toy(folder)), "--output", str(folder / "out")]) == 0
    return folder / "out"


def changed_recipe(tmp_path, old, new):
    assert old in TOY
    return read_recipe(write_toy(tmp_path, TOY.replace(old, new)))
