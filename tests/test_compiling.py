import argparse
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from depthfm_core import DepthFMPipeline, EstimationSettings, load_pipeline
from depthfm_core.batching import largest_divisor
from depthfm_core.cli.arguments import add_model_arguments, pipeline_from
from depthfm_core.model import compiling
from depthfm_core.resize import SHAPES, fit

QUICK = EstimationSettings(num_steps=1, ensemble_size=3, members_at_once=2, processing_resolution=64)


@pytest.fixture
def parts(golden_dir):
    return golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors"


def photo(height, width):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))


PHOTOS_4_TO_3 = ((90, 120), (90, 118), (91, 116), (60, 79), (300, 400))
PHOTOS_2_TO_1 = ((90, 180), (45, 88))


class Recorder(torch.nn.Module):
    """A network and a codec of no arithmetic, which remember the shapes that they meet."""

    downscale, hyper, null_text = 8, SimpleNamespace(channel_mult=(1, 2, 4, 4), channels=(32,)), torch.zeros(1)
    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def forward(self, x_t, t, image_latent):
        self.shapes.add(("network", x_t.shape))
        return torch.zeros_like(x_t)

    def encode(self, image):
        return torch.nn.functional.avg_pool2d(image[:, :1], 8).expand(-1, 4, -1, -1)

    def decode_log_depth(self, latent):
        self.shapes.add(("decoder", latent.shape))
        return torch.nn.functional.interpolate(latent[:, :1], scale_factor=8.0)


def test_photos_of_nearly_one_aspect_show_the_network_and_the_decoder_one_shape():
    recorder = Recorder()
    pipeline = DepthFMPipeline(recorder, recorder, 400, 448, few_shapes=True)
    for sizes, met in ((PHOTOS_4_TO_3, 2), (PHOTOS_2_TO_1, 4)):
        for size in sizes:
            pipeline(photo(*size), replace(QUICK, processing_resolution=320))  # at which their multiples differ
        assert len(recorder.shapes) == met


def test_the_network_and_the_decoder_are_compiled_for_static_shapes_and_nothing_else_is(parts, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **how: asked.append((function, how["dynamic"])) or function)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **how: torch.compile(module, **how))
    monkeypatch.setattr("shutil.which", lambda name: name)
    pipeline = load_pipeline(*parts, compile=True)
    assert asked == [(pipeline.network.unet, False), (pipeline.codec._decode, False)]
    config = torch._dynamo.config
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # before PyTorch 2.7
    assert getattr(config, name) >= 2 * len(SHAPES) - 1
    assert pipeline.few_shapes and not load_pipeline(*parts).few_shapes


def test_predict_compiles_where_it_is_asked_to(parts, monkeypatch):
    asked = []
    monkeypatch.setattr("depthfm_core.model.compiling.compile_networks", lambda *parts: asked.append(parts))
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    for options in ((), ("--compile",)):
        pipeline_from(parser.parse_args(["--model", str(parts[0]), "--vae", str(parts[1]), *options]))
    assert len(asked) == 1


def test_pictures_of_every_aspect_become_one_of_fifteen_sizes_and_come_back():
    sizes = set()
    for side in (20, 70, 100, 130, 145, 170, 190, 240, 290, 350, 900):
        for size in ((100, side), (side, 100)):
            image = torch.rand(1, 1, *size)
            fitted, frame = fit(image, 448, 64, few_shapes=True)
            sizes.add(tuple(fitted.shape[-2:]))
            assert all(side % 64 == 0 for side in fitted.shape[-2:])
            assert frame.undo(fitted).shape == image.shape
    assert len(sizes) == 2 * len(SHAPES) - 1


def test_few_shapes_cost_photographs_of_the_usual_aspects_nothing():
    for height, width in ((480, 640), (1000, 1500), (1080, 1920), (700, 700), (1600, 1200)):
        image = torch.rand(1, 1, height, width)
        fitted, few = fit(image, 448, 64)[0], fit(image, 448, 64, few_shapes=True)[0]
        assert torch.equal(fitted, few)


def test_a_size_of_its_own_keeps_every_pixel_in_few_shapes():
    image = torch.rand(1, 3, 50, 70)
    fitted, frame = fit(image, 0, 32, few_shapes=True)
    assert fitted.shape[-2:] == (64, 96)
    assert torch.equal(frame.undo(fitted), image)
    assert fit(torch.rand(1, 1, 10, 200), 0, 32, few_shapes=True)[0].shape[-2:] == (32, 224)


def test_chunks_are_equal_where_shapes_should_be_few():
    assert [largest_divisor(6, most) for most in (1, 2, 4, 5, 6, 100)] == [1, 2, 3, 3, 6, 6]
    assert largest_divisor(7, 5) == 1


@pytest.mark.parametrize(
    ("device", "missing", "said"),
    [("cpu", "which", "needs a C\\+\\+ compiler"), ("cuda", "find_spec", "triton"), ("mps", "", "not mps")],
)
def test_what_compiling_needs_is_named_where_it_is_missing(parts, monkeypatch, device, missing, said):
    pipeline = load_pipeline(*parts)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ValueError, match=f"{said}.*leave out --compile"):
        compiling.compile_networks(pipeline.network, pipeline.codec, torch.device(device))


@pytest.mark.parametrize(
    ("system", "compiler", "triton"),
    [
        ("linux", "`apt install g\\+\\+`", "`pip install triton`"),
        ("darwin", "`xcode-select --install`", "`pip install triton`"),
        ("win32", "Visual Studio's Build Tools", "`pip install triton-windows`"),
    ],
)
def test_what_compiling_needs_is_named_as_the_system_calls_it(parts, monkeypatch, system, compiler, triton):
    pipeline = load_pipeline(*parts)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr(compiling.sys, "platform", system)
    for device, said in (("cpu", compiler), ("cuda", triton)):
        with pytest.raises(ValueError, match=said):
            compiling.compile_networks(pipeline.network, pipeline.codec, torch.device(device))


class CountingBackend:
    """Compiles nothing, and counts how often it is asked to."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, _inputs):
        self.graphs += 1
        return graph.forward


@pytest.mark.slow
def test_photos_of_nearly_one_aspect_are_compiled_once_and_another_aspect_once_more(parts):
    torch._dynamo.reset()
    pipeline, backend = replace(load_pipeline(*parts), few_shapes=True), CountingBackend()
    compiling.compile_networks(pipeline.network, pipeline.codec, pipeline.device, backend)
    for sizes, graphs in ((PHOTOS_4_TO_3, 2), (PHOTOS_2_TO_1, 4)):
        for size in sizes:
            pipeline(photo(*size), QUICK)
        assert backend.graphs == graphs


@pytest.mark.slow
def test_compiled_code_gives_the_same_depth(parts):
    torch._dynamo.reset()
    settings = replace(QUICK, ensemble_size=2)
    compiled = load_pipeline(*parts, compile=True)(photo(48, 64), settings)
    expected = replace(load_pipeline(*parts), few_shapes=True)(photo(48, 64), settings)
    torch.testing.assert_close(compiled.log_depth, expected.log_depth, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("resolution", "multiple"), [(200, 32), (260, 32), (450, 64)])
def test_few_shapes_are_of_the_resolution_that_pictures_are_rounded_to(resolution, multiple):
    image = torch.rand(1, 1, 600, 800)
    fitted, few = fit(image, resolution, multiple)[0], fit(image, resolution, multiple, few_shapes=True)[0]
    assert min(fitted.shape[-2:]) == min(few.shape[-2:]) and few.shape[-1] - fitted.shape[-1] in (0, multiple)
