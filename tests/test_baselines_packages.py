"""Compared methods as an ONNX graph, here a tiny one, or as a package of their authors, here a stub of it."""

import sys

import pytest
import torch

from depthfm_core.evaluation.baselines import METHODS, load_method, onnx_graph
from depthfm_core.evaluation.spaces import check_alignments
from depthfm_core.training.teacher import choose_range


@pytest.fixture
def image():
    return torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))


def save_graph(path, size=(None, None)):
    """A graph that multiplies the red channel by two and calls it depth."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    kind, shape = TensorProto.FLOAT, [1, 3, *size]
    nodes = [
        helper.make_node("Gather", ["pixel_values", "zero"], ["red"], axis=1),
        helper.make_node("Mul", ["red", "two"], ["predicted_depth"]),
        helper.make_node("Mul", ["red", "red"], ["confidence"]),
    ]
    graph = helper.make_graph(
        nodes,
        "depth",
        [helper.make_tensor_value_info("pixel_values", kind, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name in ("confidence", "predicted_depth")],
        [helper.make_tensor("zero", TensorProto.INT64, [1], [0]), helper.make_tensor("two", kind, [1], [2.0])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))
    return path


@pytest.mark.parametrize(("size", "expected"), [((None, None), (616, 821)), ((28, 70), (28, 37))])
def test_an_onnx_graph_gets_colors_to_255_at_its_own_size(tmp_path, image, size, expected):
    pytest.importorskip("onnxruntime")
    method = load_method(f"metric3d-v2-onnx={save_graph(tmp_path / 'model.onnx', size)}")
    found = method(torch.full_like(image, 0.5))
    assert found.shape == (1, 1, *expected) and (method.gives, method.num_calls) == ("relative_depth", 1)
    assert torch.allclose(found, torch.full_like(found, 255), atol=1e-3)


def test_a_missing_or_broken_onnx_file_is_answered_with_where_to_get_one(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="hf download onnx-community/metric3d-vit-small"):
        load_method(f"metric3d-v2-onnx={tmp_path / 'nowhere.onnx'}")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match="metric3d-v2-onnx cannot be loaded from .*broken.onnx"):
        load_method(f"metric3d-v2-onnx={tmp_path / 'broken.onnx'}")


MOGE = """
import torch
class MoGeModel(torch.nn.Module):
    @classmethod
    def from_pretrained(cls, path, **arguments):
        assert arguments == {"local_files_only": True}
        cls.path = path
        open(path).close()
        return cls()
    def infer(self, image, apply_mask, use_fp16):
        assert image.ndim == 3 and not apply_mask and not use_fp16
        return {"depth": image.mean(0)}
"""
# As the package: rounded to float16 by `forward`, a line for every picture, and a sky at a depth that is drawn.
DEPTH_ANYTHING_3 = """
import torch
from types import SimpleNamespace
logger = SimpleNamespace(level=2)
class Network(torch.nn.Module):
    def forward(self, depth):
        return depth / 3 + torch.randint(0, 1000, (1,))
class DepthAnything3(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Network()
    @classmethod
    def from_pretrained(cls, path, local_files_only):
        return cls()
    def forward(self, depth):
        return self.model(depth).half()
    def inference(self, images, process_res):
        (pixels,) = images
        assert process_res == 504 and pixels.dtype.name == "uint8" and pixels.shape[2] == 3
        if logger.level > 1:
            print("[INFO] a picture")
        depth = self.forward(torch.from_numpy(pixels[None, ::2, ::2, 0].astype("float32")))
        return SimpleNamespace(depth=depth.float().numpy())
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Puts a module with this code on the path for the length of a test."""

    def put(name, code):
        file = tmp_path.joinpath("packages", *name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True)
        file.write_text(code, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path / "packages")

    before = set(sys.modules)
    yield put
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("moge", "depth_anything_3"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "module", "gives"), [("moge", "moge.model.v1", "relative_depth"), ("moge-2", "moge.model.v2", "depth_m")]
)
def test_moge_is_asked_for_unmasked_depth(package, tmp_path, image, name, module, gives):
    package(module, MOGE)
    (tmp_path / "model.pt").write_bytes(b"")
    method = load_method(f"{name}={tmp_path}")
    assert torch.allclose(method(image), image.mean(1, keepdim=True))
    assert (method.gives, method.num_calls, method.made_with) == (gives, 1, {"dtype": "float32"})
    with pytest.raises(ValueError, match="hf download Ruicheng/moge"):
        load_method(f"{name}={tmp_path / 'nowhere.pt'}")


def test_depth_anything_3_gets_bytes_and_gives_depth_at_its_own_size(package, tmp_path, image, capsys):
    package("depth_anything_3.api", DEPTH_ANYTHING_3)
    method = load_method(f"depth-anything-v3={tmp_path}")
    found, expected = method(image), (image[:, :1, ::2, ::2] * 255).round() / 3
    # The spread of its numbers is float32's, not rounded to float16; what it draws is a whole number.
    assert torch.allclose(found - found.min(), expected - expected.min(), atol=1e-3)
    assert method.gives == "depth" and method.made_with["dtype"] == "float32" and not capsys.readouterr().out


def test_depth_anything_3_draws_the_same_every_time_and_leaves_pytorchs_generator_alone(package, tmp_path, image):
    package("depth_anything_3.api", DEPTH_ANYTHING_3)
    method = load_method(f"depth-anything-v3={tmp_path}")
    before = torch.get_rng_state()
    first = method(image)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert torch.equal(method(image), first)


def test_depth_anything_3_is_depth_up_to_scale_and_shift_as_its_paper_says():
    gives = METHODS["depth-anything-v3"].gives
    check_alignments(gives, ["affine"])
    for alignment in ("log", "scale", "disparity"):
        with pytest.raises(ValueError, match="cannot be aligned"):
            check_alignments(gives, [alignment])
    assert choose_range(gives) == 10 and choose_range(gives, 30) == 30


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("moge-2", "pip install git"),
        (
            "depth-anything-v3",
            r"depth_anything_3, which is not.*pip install depth-anything-3 addict.*of its own.*numpy below 2.*3\.12",
        ),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(name, command):
    with pytest.raises(ValueError, match=command):
        load_method(name)


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("cpu", ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
        ("cuda", ["CPUExecutionProvider"], ["CPUExecutionProvider"]),
        ("cuda:1", ["CUDAExecutionProvider"], [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]),
    ],
)
def test_a_graph_runs_on_the_gpu_that_was_asked_for(monkeypatch, device, available, expected):
    monkeypatch.setattr(onnx_graph, "usable_device", torch.device)
    assert onnx_graph._providers(device, available) == expected
