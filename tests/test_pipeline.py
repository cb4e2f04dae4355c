from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from depthfm_core import DepthFMPipeline, DepthPrediction, EstimationSettings, load_pipeline
from depthfm_core.depth.predicted_normals import predicted_normals
from depthfm_core.flow import SOLVERS

AUTHORS = EstimationSettings(processing_resolution=0, align_members=False)
QUICK = EstimationSettings(num_steps=1, processing_resolution=32)


@pytest.fixture(scope="module")
def pipeline(golden_dir):
    return load_pipeline(golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors")


@pytest.fixture(scope="module")
def golden(golden_dir):
    """Reference depth and the noise it was computed from; golden/README.md says why the noise is a file of its own."""
    noise = load_file(golden_dir / "depthfm-micro-pipeline-noise.safetensors")
    return load_file(golden_dir / "depthfm-micro-pipeline.safetensors") | noise


@pytest.fixture(scope="module")
def photo(golden):
    return golden["image_uint8"].permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(("num_steps", "ensemble_size"), [(1, 1), (2, 1), (4, 1), (2, 3)])
def test_image_to_depth_equals_the_authors_the_whole_way(pipeline, golden, photo, num_steps, ensemble_size):
    settings = replace(AUTHORS, num_steps=num_steps)
    depth = pipeline(photo, settings, noise=golden[f"noise_ensemble{ensemble_size}"]).depth
    expected = golden[f"depth_steps{num_steps}_ensemble{ensemble_size}"]
    assert (depth - expected).norm() / expected.norm() < 1e-4


def test_a_result_does_not_depend_on_batch_or_chunks(pipeline):
    images = torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    settings = replace(QUICK, num_steps=2, ensemble_size=3)
    together = pipeline(images, settings)
    for chunk in (1, 2, 4):
        chunked = pipeline(images, replace(settings, members_at_once=chunk))
        torch.testing.assert_close(chunked.log_depth, together.log_depth, rtol=1e-4, atol=1e-4)
    alone = pipeline(images[2:], settings)
    torch.testing.assert_close(alone.log_depth, together.log_depth[2:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone.uncertainty, together.uncertainty[2:], rtol=1e-3, atol=1e-4)


def test_threads_may_share_a_pipeline(pipeline):
    images = torch.rand(6, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    alone = [pipeline(image, QUICK).log_depth for image in images]
    with ThreadPoolExecutor(3) as pool:
        shared = list(pool.map(lambda image: pipeline(image, QUICK).log_depth, images))
    torch.testing.assert_close(shared, alone, rtol=1e-4, atol=1e-4)


def test_noise_per_image_is_that_of_the_next_seeds_and_shared_noise_that_of_one(pipeline):
    images = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    settings = replace(QUICK, ensemble_size=2, seed=2**64 - 1)
    own = pipeline(images, replace(settings, noise_per_image=True)).log_depth
    shared = pipeline(images, settings).log_depth
    next_seed = pipeline(images[:1], replace(settings, seed=0)).log_depth
    torch.testing.assert_close(shared[0], shared[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own[:1], shared[:1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own[1:], next_seed, rtol=1e-4, atol=1e-4)
    assert (own[0] - own[1]).abs().max() > 1e-2


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (65, 63), (128, 40)])
def test_the_map_has_the_callers_size_and_is_finite(pipeline, size):
    prediction = pipeline(torch.rand(1, 3, *size), QUICK)
    assert isinstance(prediction, DepthPrediction)
    assert prediction.depth.shape == prediction.log_depth.shape == (1, 1, *size)
    assert prediction.depth.isfinite().all()


@pytest.mark.parametrize(
    "change",
    [
        {"num_steps": 3},
        {"solver": "midpoint"},
        {"solver": "rk4"},
        {"ensemble_size": 2},
        {"seed": 1},
        {"noising_step": 100},
        {"processing_resolution": 64},
        {"processing_resolution": None},
    ],
    ids=str,
)
def test_every_setting_changes_the_result(pipeline, photo, change):
    plain = pipeline(photo, replace(QUICK, num_steps=1))
    assert not torch.allclose(plain.log_depth, pipeline(photo, replace(QUICK, **change)).log_depth, atol=1e-5)


@pytest.mark.parametrize(("base", "change"), [({}, {"grid": "rho"}), ({"grid": "rho"}, {"rho": 3.0})], ids=str)
def test_the_grid_of_two_steps_changes_the_result(pipeline, photo, base, change):
    settings = replace(QUICK, num_steps=2, **base)
    before, after = (pipeline(photo, some).log_depth for some in (settings, replace(settings, **change)))
    assert not torch.allclose(before, after, atol=1e-5)


@pytest.mark.parametrize("change", [{"reduction": "median"}, {"align_members": False}], ids=str)
def test_every_way_to_combine_members_changes_the_result(pipeline, photo, change):
    settings = replace(QUICK, ensemble_size=3)
    assert not torch.equal(pipeline(photo, settings).log_depth, pipeline(photo, replace(settings, **change)).log_depth)


def test_looser_tolerances_need_fewer_calls(pipeline, photo):
    def calls(**settings):
        reports = []
        pipeline(photo, replace(QUICK, solver="dopri5", **settings), reports.append)
        return reports[-1].num_calls

    assert calls(rtol=1e-1, atol=1e-8) < calls(rtol=1e-3, atol=1e-8)
    assert calls(rtol=1e-8, atol=1e-1) < calls(rtol=1e-8, atol=1e-3)
    with pytest.raises(RuntimeError, match="max_steps"):
        calls(rtol=1e-9, atol=1e-9, max_steps=1)


def test_progress_is_told_step_by_step(pipeline, photo):
    reports = []
    pipeline(photo, replace(QUICK, num_steps=3, solver="heun"), reports.append)
    assert [(r.step, r.num_calls) for r in reports] == [(1, 2), (2, 4), (3, 6)]


def test_the_same_seed_gives_the_same_depth_and_leaves_the_global_generator_alone(pipeline, photo):
    state = torch.random.get_rng_state()
    first = pipeline(photo, QUICK).depth
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(5)
    assert torch.equal(first, pipeline(photo, QUICK).depth)


@pytest.mark.parametrize("average", ["depth", "latents"])
def test_the_callers_default_precision_makes_no_difference(average):
    nano, image = load_pipeline("nano"), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    settings = EstimationSettings(num_steps=1, ensemble_size=2, processing_resolution=64, average=average)
    wanted = nano(image, settings)
    torch.set_default_dtype(torch.float64)
    try:
        found = load_pipeline("nano")(image, settings)
        assert predicted_normals(found, fov_deg=60).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found.log_depth, wanted.log_depth, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.uncertainty, wanted.uncertainty, rtol=1e-3, atol=1e-4)


def test_half_precision_stays_near_float32(golden_dir, pipeline, photo):
    half = load_pipeline(
        golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors", dtype="bfloat16"
    )
    difference = half(photo, AUTHORS).log_depth - pipeline(photo, AUTHORS).log_depth
    assert 0 < difference.norm() / pipeline(photo, AUTHORS).log_depth.norm() < 0.1


def test_rescaled_attention_is_another_function(golden_dir, pipeline, photo):
    paths = golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors"
    rescaled = load_pipeline(*paths, attention="rescaled")
    assert not torch.allclose(rescaled(photo, QUICK).log_depth, pipeline(photo, QUICK).log_depth, atol=1e-4)


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (torch.zeros(3, 8, 8), "shape"),
        (torch.zeros(1, 1, 8, 8), "shape"),
        (torch.zeros(0, 3, 8, 8), "shape"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 8, 8), 255.0), "255"),
        (torch.full((1, 3, 8, 8), float("nan")), "nan"),
        ("photo.jpg", r"a str; .*read_image\(path\)"),
        (np.zeros((8, 8, 3)), "a ndarray; expected a tensor"),
        (Image.new("RGB", (8, 8)), "a Image; expected a tensor"),
    ],
)
def test_an_image_that_is_none_is_refused(pipeline, image, word):
    with pytest.raises(ValueError, match=word):
        pipeline(image, QUICK)


@pytest.mark.parametrize("solver", ["", "Euler", "dpm"])
def test_an_unknown_solver_is_refused_with_the_list(pipeline, photo, solver):
    with pytest.raises(ValueError, match=", ".join(SOLVERS)):
        pipeline(photo, replace(QUICK, solver=solver))


def test_sizes_are_padded_to_one_cell_of_the_deepest_level(pipeline):
    assert isinstance(pipeline, DepthFMPipeline) and pipeline.multiple == 8 * 2


def test_a_pipeline_is_shown_without_its_networks(pipeline):
    assert len(repr(pipeline)) < 200 and f"noising_step={pipeline.noising_step}" in repr(pipeline)
