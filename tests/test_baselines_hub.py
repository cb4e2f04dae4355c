"""Compared methods in torch.hub repositories: stubs of these in a cache folder of the test."""

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
    """The network that a method's function closes over, itself or by the function that it calls."""
    inside = [cell.cell_contents for cell in method.estimate.__closure__]
    inside += [cell.cell_contents for part in inside for cell in getattr(part, "__closure__", None) or ()]
    return next(part for part in inside if isinstance(part, torch.nn.Module))


@pytest.mark.parametrize(
    ("name", "size", "mean", "std"),
    [
        ("midas", (288, 384), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("midas-dpt-large", (384, 512), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("midas-dpt-hybrid", (384, 512), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_midas_sees_the_published_size_and_colors(hub, name, size, mean, std):
    method = load_method(name)
    found = method(torch.full((1, 3, 480, 640), 0.25))
    assert found.shape == (1, 1, *size)
    assert (method.gives, method.num_calls) == ("disparity", 1)
    expected = (0.25 - torch.tensor(mean)) / torch.tensor(std)
    assert torch.allclose(network_of(method).seen[0, :, 7, 9], expected, atol=1e-5)


def test_a_repository_can_be_named_by_its_folder(hub, image, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "nowhere")
    assert load_method(f"midas={hub / 'isl-org_MiDaS_master'}")(image).shape == (1, 1, 288, 384)


def test_weights_that_the_code_would_download_are_not_fetched(hub, image):
    """MiDaS's and Metric3D's entry points call `load_state_dict_from_url`, which reads the cache first."""
    conf = hub / "isl-org_MiDaS_master" / "hubconf.py"
    asks = 'torch.hub.load_state_dict_from_url("https://nowhere.invalid/dpt.pt")'
    conf.write_text(MIDAS.replace("return Network(1)", f"{asks}; return Network(1)"), encoding="utf-8")
    fetch = torch.hub.download_url_to_file
    with pytest.raises(ValueError, match=r"midas cannot be loaded from .*there is no .*dpt\.pt.*Fetch it: "):
        load_method("midas")
    assert torch.hub.download_url_to_file is fetch
    (hub / "checkpoints").mkdir(exist_ok=True)
    torch.save({}, hub / "checkpoints" / "dpt.pt")
    assert load_method("midas")(image).shape == (1, 1, 288, 384)


def test_omnidata_gives_depth_clipped_to_one_from_its_own_repository(hub, image):
    method = load_method("omnidata")
    network = network_of(method)
    torch.nn.init.constant_(network.scratch.weight, 5)
    found = method(image)
    assert found.shape == (1, 1, 384, 512) and method.gives == "depth"
    assert found.min() == 0 and found.max() == 1


def test_omnidata_sees_pictures_resized_as_its_authors_resize_them(hub):
    resize = pytest.importorskip("torchvision.transforms.functional").resize
    image = torch.rand(1, 3, 768, 1024, generator=torch.Generator().manual_seed(0))
    method = load_method("omnidata")
    method(image)
    expected = resize(image, [384, 512], antialias=True)  # bilinear
    assert torch.allclose(network_of(method).seen, 2 * expected - 1, atol=1e-5)


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
        load_method(name, MethodOptions(device="cuda"))


def test_metric3d_as_published_is_refused_where_it_cannot_compute():
    with pytest.raises(ValueError, match="computes on CUDA only, not on cpu; take metric3d-v2-onnx"):
        load_method("metric3d-v2", MethodOptions(device="cpu"))


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
    assert method.gives == "relative_depth" and method.made_with == {"size": "616 x 1064"}
    white = load_method(metric3d)(torch.ones_like(image))
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    assert torch.allclose(white, 2 + ((255 - mean) / std).mean(), atol=1e-4)


def test_a_focal_length_makes_metric3ds_depth_metric(metric3d, image):
    canonical = load_method(metric3d)(image)
    method = load_method(metric3d, MethodOptions(focal_px=50))
    assert method.gives == "depth_m" and method.made_with["focal_px"] == 50
    assert torch.allclose(method(image), (canonical * 50 * 821 / 64 / 1000).clamp(0, 300), atol=1e-4)
    assert load_method(metric3d, MethodOptions(focal_px=1e9))(torch.ones_like(image)).max() == 300
