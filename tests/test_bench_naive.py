"""The naive way of estimating that `bench` compares with: the same answer, by more work."""

import pytest
import torch

from depthfm_core.bench.flops import count_flops
from depthfm_core.bench.measure import Case
from depthfm_core.bench.model import RANDOM_MODELS, model_files, without_weights
from depthfm_core.bench.naive import NaiveCodec, NaiveNetwork, NaivePipeline, load_naive
from depthfm_core.bench.stages import STAGES, run_timed
from depthfm_core.loading import load_pipeline
from depthfm_core.settings import EstimationSettings

SETTINGS = EstimationSettings(num_steps=2, ensemble_size=3, seed=5, processing_resolution=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return model_files("tiny", None, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def naive(files):
    return load_naive(files.model, files.vae)


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 70, 100, generator=torch.Generator().manual_seed(1))


def test_the_naive_way_gives_the_pipelines_answer(files, naive, image):
    ours = load_pipeline(files.model, files.vae, dtype="float32")
    plain = EstimationSettings(**{**vars(SETTINGS), "align_members": False})
    assert torch.allclose(naive(image, SETTINGS).log_depth, ours(image, plain).log_depth, atol=1e-4)
    for pipeline in (naive, ours):
        _, _, log_depth = run_timed(pipeline, image, SETTINGS)
        assert log_depth.shape == (80, 112) and log_depth.std() > 0.01


def test_the_naive_way_gives_the_pipelines_answer_with_the_bundled_model_at_its_own_resolution():
    image = Case(None, None, 1, 1).image()
    settings = EstimationSettings(num_steps=1, sharpen_edges=False)
    ours, naive = load_pipeline("nano", dtype="float32"), load_naive(model_files("nano", None, None).model)
    assert torch.allclose(naive(image, settings).depth, ours(image, settings).depth, atol=1e-4)


def test_the_naive_way_encodes_every_copy_and_the_pipeline_one(files, naive, image):
    work = {
        name: run_timed(pipeline, image, SETTINGS)[1]
        for name, pipeline in (("naive", naive), ("ours", load_pipeline(files.model, files.vae)))
    }
    assert work["naive"] == {"encode": 3, "solve": 6, "decode": 3}
    assert work["ours"] == {"encode": 1, "solve": 6, "decode": 3}


def test_the_stages_add_up_to_the_whole(naive, image):
    seconds, _, _ = run_timed(naive, image, SETTINGS)
    assert sum(seconds[stage] for stage in STAGES) == pytest.approx(seconds["whole"])
    assert min(seconds.values()) > 0


def test_the_stages_cost_the_known_operations_at_the_published_size():
    network, autoencoder = without_weights(RANDOM_MODELS["full"])
    plain = NaiveNetwork(network.unet, network.null_text, network.parameterization)
    pipeline = NaivePipeline(plain, NaiveCodec(autoencoder, 1.0), 400, 448, 64)
    teraflops = {stage: count / 1e12 for stage, count in count_flops(pipeline, 512, 512).items()}
    assert teraflops == pytest.approx({"encode": 1.12, "solve": 0.80, "decode": 2.52}, rel=0.01)
    assert sum(p.numel() for p in network.unet.parameters()) == 865_922_244


def test_random_weights_are_written_once_and_keep_unit_scale(files, naive, image):
    changed = files.model.stat().st_mtime_ns
    assert model_files("tiny", None, files.model.parent) == files and files.model.stat().st_mtime_ns == changed
    prediction = naive(image, SETTINGS)
    assert 0.01 < prediction.log_depth.std() < 10
