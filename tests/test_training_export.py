"""The resolution that an exported model sees, which need not be that of the views it learned from."""

import shutil

import pytest

from depthfm_core.model.checkpoints import load_checkpoint
from depthfm_core.training import stages
from depthfm_core.training.augment import ViewSettings
from depthfm_core.training.export import ExportSettings
from depthfm_core.training.stages import run_recipe

from .trained_recipe import changed_recipe

LEARNED = ViewSettings(192, 256, min_scale=0.5)


@pytest.mark.parametrize(
    ("resolution", "size"),
    [(0, (192, 256)), (192, (192, 256)), (256, (256, 352)), (384, (384, 512)), (100, (96, 128)), (10, (32, 32))],
)
def test_the_view_keeps_its_aspect_in_whole_cells(resolution, size):
    view = ExportSettings(resolution).view(LEARNED, 32)
    assert (view.height_px, view.width_px) == size
    assert view.min_scale == LEARNED.min_scale


@pytest.mark.parametrize("resolution", [-1, 16385])
def test_a_resolution_that_no_picture_has_is_refused(resolution):
    with pytest.raises(ValueError, match=f"processing_resolution is {resolution}; choose up to 16384"):
        ExportSettings(resolution)


def test_the_model_says_the_recipes_resolution_at_which_its_spread_was_measured(trained, tmp_path, monkeypatch):
    output, sizes = shutil.copytree(trained, tmp_path / "out"), []
    monkeypatch.setattr(
        stages, "measure_spread_scale", lambda _network, _codec, frames, _step: sizes.append(frames.image.shape) or 2.0
    )
    recipe = changed_recipe(tmp_path, "[flow.first]", "[export]\nprocessing_resolution = 60\n[flow.first]")
    run_recipe(recipe, output)
    model = load_checkpoint(output / "model.safetensors")
    assert (model.processing_resolution, model.spread_scale) == (64, 2.0)  # whole cells of 16 pixels
    assert [tuple(size[-2:]) for size in sizes] == [(64, 96)]
    assert load_checkpoint(trained / "model.safetensors").processing_resolution == 32  # its views'
