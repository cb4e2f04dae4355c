"""Compared methods whose code is fetched by the user: stub repositories, a stub package, a tiny ONNX graph."""

import sys

import pytest
import torch

from depthfm_core.evaluation.baselines import MethodOptions, load_method

# Networks with one number to learn; what they return shows what they were given.
MIDAS = """
dependencies = ["torch"]
import torch

class Network(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scratch = torch.nn.Conv2d(3, width, 1)
        if width == 2:
            self.pretrained = torch.nn.ModuleDict({"backbone": torch.nn.ModuleDict({"stem": torch.nn.Linear(1, 1)})})
    def forward(self, pixels):
        self.seen = pixels
        return self.scratch(pixels).mean(1)

def MiDaS(pretrained=True):
    return Network(1)

def DPT_Large(pretrained=True):
    return Network(1)

def DPT_Hybrid(pretrained=True):
    return Network(2)

def depth_dpt_hybrid_384(pretrained=True):
    return Network(2)
"""
METRIC3D = """
dependencies = ["torch"]
import torch

class Network(torch.nn.Module):
    def inference(self, data):
        self.seen = data["input"]
        return 2 + data["input"].mean(1, keepdim=True), None, {}

def metric3d_vit_small(pretrain=False):
    assert pretrain
    return Network()
"""


@pytest.fixture
def image():
    return torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A torch.hub cache with stubs of the repositories."""
    for name, code in (("isl-org_MiDaS_master", MIDAS), ("alexsax_omnidata_models_main", MIDAS)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hubconf.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path


def network_of(method):
    """The network that a method's function closes over."""
    return next(c.cell_contents for c in method.estimate.__closure__ if isinstance(c.cell_contents, torch.nn.Module))


@pytest.mark.parametrize(
    ("name", "size", "mean", "std"),
    [
        ("midas", (288, 384), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("midas-dpt-large", (384, 512), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("midas-dpt-hybrid", (384, 512), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_midas_sees_the_published_size_and_colors(hub, image, name, size, mean, std):
    method = load_method(name)
    found = method(torch.full_like(image, 0.25))
    assert found.shape == (1, 1, *size)
    assert (method.gives, method.num_calls) == ("disparity", 1)
    expected = (0.25 - torch.tensor(mean)) / torch.tensor(std)
    assert torch.allclose(network_of(method).seen[0, :, 7, 9], expected, atol=1e-5)


def test_a_repository_can_be_named_by_its_folder(hub, image, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "nowhere")
    assert load_method(f"midas={hub / 'isl-org_MiDaS_master'}")(image).shape == (1, 1, 288, 384)


def test_omnidata_gives_depth_clipped_to_one_from_its_own_repository(hub, image):
    method = load_method("omnidata")
    network = network_of(method)
    torch.nn.init.constant_(network.scratch.weight, 5)
    found = method(image)
    assert found.shape == (1, 1, 384, 512) and method.gives == "depth"
    assert found.min() == 0 and found.max() == 1


@pytest.mark.parametrize(("name", "width"), [("omnidata", 2), ("hdn", 1), ("hdn", 2)])
def test_a_file_of_weights_goes_into_the_architecture_that_it_fits(hub, image, tmp_path, name, width):
    source = torch.nn.Conv2d(3, width, 1)
    state = {f"model.scratch.{key}": value for key, value in source.state_dict().items()}
    if width == 2:
        stem = torch.nn.Linear(1, 1)
        state |= {f"model.pretrained.backbone.stem.{key}": value for key, value in stem.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.ckpt")
    method = load_method(f"{name}={tmp_path / 'weights.ckpt'}")
    method(image)
    assert torch.equal(network_of(method).scratch.weight, source.weight)
    assert method.gives == "depth"


def test_a_file_that_lacks_a_tensor_is_refused(hub, tmp_path):
    torch.save({"scratch.weight": torch.zeros(1, 3, 1, 1)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="hdn cannot be loaded from .*weights.pt"):
        load_method(f"hdn={tmp_path / 'weights.pt'}")


def test_a_file_that_would_run_code_is_refused(hub, tmp_path):
    torch.save({"state_dict": pytest.fail}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="weights.pt"):
        load_method(f"hdn={tmp_path / 'weights.pt'}")


@pytest.mark.parametrize("name", ["midas", "omnidata", "metric3d-v2"])
def test_code_that_was_never_fetched_is_not_fetched_but_asked_for(name, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load", lambda *_a, **_k: pytest.fail("reached for the network"))
    with pytest.raises(ValueError, match=r"torch.hub.load\('"):
        load_method(name)


def test_a_package_that_a_repository_needs_is_named(hub):
    (hub / "isl-org_MiDaS_master" / "hubconf.py").write_text("import no_such_package", encoding="utf-8")
    with pytest.raises(ValueError, match="pip install no_such_package"):
        load_method("midas")


@pytest.fixture
def metric3d(tmp_path):
    (tmp_path / "hubconf.py").write_text(METRIC3D, encoding="utf-8")
    return f"metric3d-v2-small={tmp_path}"


def test_metric3d_sees_the_picture_on_the_mean_color_and_loses_the_border_again(metric3d, image):
    method = load_method(metric3d)
    found = method(image)
    assert found.shape == (1, 1, 616, 821)  # 616 / 48 * 64, rounded down
    assert method.gives == "depth"
    seen = torch.hub.load  # the closure holds `run`, which holds the network
    assert seen is not None
    white = load_method(metric3d)(torch.ones_like(image))
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    assert torch.allclose(white, 2 + ((255 - mean) / std).mean(), atol=1e-4)


def test_a_focal_length_makes_metric3ds_depth_metric(metric3d, image):
    canonical = load_method(metric3d)(image)
    method = load_method(metric3d, MethodOptions(focal_px=50))
    assert method.gives == "depth_m"
    assert torch.allclose(method(image), (canonical * 50 * 821 / 64 / 1000).clamp(0, 300), atol=1e-4)
    assert load_method(metric3d, MethodOptions(focal_px=1e9))(torch.ones_like(image)).max() == 300


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
    assert found.shape == (1, 1, *expected) and (method.gives, method.num_calls) == ("depth", 1)
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
DEPTH_ANYTHING_3 = """
import torch
from types import SimpleNamespace
class DepthAnything3(torch.nn.Module):
    @classmethod
    def from_pretrained(cls, path, local_files_only):
        return cls()
    def inference(self, images):
        (pixels,) = images
        assert pixels.dtype.name == "uint8" and pixels.shape[2] == 3
        return SimpleNamespace(depth=pixels[None, ::2, ::2, 0].astype("float32"))
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
    ("name", "module", "gives"), [("moge", "moge.model.v1", "depth"), ("moge-2", "moge.model.v2", "depth_m")]
)
def test_moge_is_asked_for_unmasked_depth(package, tmp_path, image, name, module, gives):
    package(module, MOGE)
    (tmp_path / "model.pt").write_bytes(b"")
    method = load_method(f"{name}={tmp_path}")
    assert torch.allclose(method(image), image.mean(1, keepdim=True))
    assert (method.gives, method.num_calls) == (gives, 1)
    with pytest.raises(ValueError, match="hf download Ruicheng/moge"):
        load_method(f"{name}={tmp_path / 'nowhere.pt'}")


def test_depth_anything_3_gets_bytes_and_gives_depth_at_its_own_size(package, tmp_path, image):
    package("depth_anything_3.api", DEPTH_ANYTHING_3)
    method = load_method(f"depth-anything-v3={tmp_path}")
    assert torch.equal(method(image), (image[:, :1, ::2, ::2] * 255).round())
    assert method.gives == "depth"


@pytest.mark.parametrize(("name", "command"), [("moge-2", "pip install git"), ("depth-anything-v3", "pip install dep")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(name, command):
    with pytest.raises(ValueError, match=command):
        load_method(name)
