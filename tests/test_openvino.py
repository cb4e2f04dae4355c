"""The OpenVINO back end: the same answers as PyTorch's, converted once, and never in the way."""

import importlib.util
from dataclasses import replace

import numpy
import pytest
import torch
from safetensors.torch import load_file

from depthfm_core import EstimationSettings, load_pipeline, loading
from depthfm_core.__main__ import main
from depthfm_core.backends import choice
from depthfm_core.backends.choice import BACKENDS, choose_backend
from depthfm_core.evaluation.baselines import MethodOptions, load_method
from depthfm_core.model.checkpoints import load_checkpoint, save_checkpoint
from depthfm_core.model.codec import LatentCodec, load_codec
from depthfm_core.model.codec_parts import codec_config, codec_tensors
from depthfm_core.model.parameterization import PARAMETERIZATIONS

CPU = torch.device("cpu")
SETTINGS = EstimationSettings(num_steps=2, ensemble_size=2, processing_resolution=32)
HAVE_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAVE_OPENVINO, reason="openvino is not installed")
if HAVE_OPENVINO:
    from depthfm_core.backends import conversion, openvino_networks


@pytest.fixture(scope="module")
def toy(golden_dir):
    """A KL model: checkpoint and autoencoder."""
    return golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """DEPTHFM_HOME of all the tests that need not see it empty, so that nothing is converted twice."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("DEPTHFM_HOME", str(folder))
        yield folder


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("DEPTHFM_HOME", str(tmp_path))
    return tmp_path / "openvino"


@pytest.fixture
def stand_ins(monkeypatch):
    """Converts a small convolution in place of any network; gives the list of what was to be converted."""
    asked = []

    def stand_in(module):
        asked.append(module)
        return conversion._convert(torch.nn.Conv2d(64, 64, 1), torch.zeros(1, 64, 1, 1))

    for name in ("network", "encoder", "decoder"):
        monkeypatch.setattr(openvino_networks, f"convert_{name}", stand_in)
    return asked


def images(batch=1, height=40, width=56):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def error(pipeline, reference, image, settings=SETTINGS):
    """Relative, of log depth."""
    expected = reference(image, settings).log_depth
    return float((pipeline(image, settings).log_depth - expected).norm() / expected.norm())


def entries(folder):
    return sorted(path for path in folder.iterdir() if path.is_dir())


@needs_openvino
@pytest.mark.parametrize("model", ["kl", "tiny"])
def test_float32_is_pytorchs_answer_at_every_size_and_batch(home, toy, model):
    names = {"kl": toy, "tiny": ("nano", None)}[model]
    ours, reference = (load_pipeline(*names, backend=backend) for backend in ("openvino", "torch"))
    assert error(ours, reference, images(batch=2)) < 1e-4
    assert error(ours, reference, images(width=80), replace(SETTINGS, ensemble_size=3, members_at_once=2)) < 1e-4


@needs_openvino
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_the_velocity_is_pytorchs_at_every_time_and_for_every_parameterization(toy, parameterization):
    network = replace(load_checkpoint(toy[0]), parameterization=parameterization).build_unet()
    graph = openvino_networks.OpenVINONetwork(conversion.convert_network(network), network.hyper, torch.float32)
    t = torch.tensor([0.0, 0.01, 0.3, 0.98, 1.0])
    x_t, image_latent = torch.randn(2, 5, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(x_t, t, image_latent)
    assert (graph(x_t, t, image_latent) - expected).norm() / expected.norm() < 2e-5


@needs_openvino
def test_bfloat16_is_near_float32_and_not_it(home):
    image = torch.nn.functional.interpolate(images(width=40), (128, 128), mode="bilinear")
    settings = replace(SETTINGS, processing_resolution=128)
    ours = load_pipeline("nano", dtype="bfloat16", backend="openvino")
    assert ours.network.dtype == torch.bfloat16
    assert error(ours, load_pipeline("nano", backend="torch"), image, settings) < 2e-2


@needs_openvino
def test_a_half_precision_decode_is_not_rounded_to_steps(home):
    codec = load_pipeline("nano", dtype="bfloat16", backend="openvino").codec
    depth = codec.decode_log_depth(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert (depth != depth.bfloat16().float()).float().mean() > 0.9


@needs_openvino
def test_the_reference_depth_of_the_authors_is_met(home, toy, golden_dir):
    golden = load_file(golden_dir / "depthfm-micro-pipeline.safetensors")
    golden |= load_file(golden_dir / "depthfm-micro-pipeline-noise.safetensors")
    photo = golden["image_uint8"].permute(2, 0, 1)[None].float() / 255
    settings = EstimationSettings(processing_resolution=0, align_members=False)
    depth = load_pipeline(*toy, backend="openvino")(photo, settings, noise=golden["noise_ensemble1"]).depth
    expected = golden["depth_steps2_ensemble1"]
    assert (depth - expected).norm() / expected.norm() < 1e-4


@needs_openvino
def test_a_model_that_was_converted_is_not_converted_again_for_any_size(home, monkeypatch):
    first = load_pipeline("nano", backend="openvino")(images(), SETTINGS)
    monkeypatch.setattr(conversion, "_convert", lambda *_: pytest.fail("converted again"))
    again = load_pipeline("nano", backend="openvino")
    assert torch.equal(again(images(), SETTINGS).log_depth, first.log_depth)
    assert again(images(width=90), SETTINGS).depth.shape[-1] == 90


@needs_openvino
def test_half_precision_has_entries_of_its_own_half_as_large(empty_home, stand_ins):
    sizes = []
    for dtype in ("float32", "bfloat16", "float32"):
        load_pipeline("nano", dtype=dtype, backend="openvino")
        sizes.append(sum((entry / "graph.bin").stat().st_size for entry in entries(empty_home)))
    assert len(stand_ins) == len(entries(empty_home)) == 6
    assert sizes[0] < sizes[1] < 1.6 * sizes[0] and sizes[2] == sizes[1]


@needs_openvino
def test_other_weights_get_another_entry_also_in_a_file_of_the_same_name(empty_home, toy, stand_ins):
    codec = load_codec(toy[1])
    checkpoint = replace(load_checkpoint(toy[0]), codec_tensors=codec_tensors(codec), codec_config=codec_config(codec))
    other_weights = {name: tensor * 0.5 for name, tensor in checkpoint.state_dict.items()}
    other_codec = {name: tensor * 0.5 for name, tensor in checkpoint.codec_tensors.items()}
    seen = []
    for changes in (
        {},
        {"state_dict": other_weights},
        {"null_text": checkpoint.null_text * 2},
        {"parameterization": "diff2flow"},
        {"codec_tensors": other_codec},
        {"codec_config": dict(checkpoint.codec_config) | {"scaling_factor": 1.0}},
    ):
        save_checkpoint(replace(checkpoint, **changes), empty_home.parent / "model.safetensors", "float32")
        load_pipeline(empty_home.parent / "model.safetensors", backend="openvino")
        seen.append(len(entries(empty_home)))
    assert seen == [3, 4, 5, 6, 8, 10]


@needs_openvino
def test_what_other_code_converted_is_not_taken(empty_home, stand_ins, monkeypatch):
    for code in ("old", "new", "new"):
        monkeypatch.setattr(openvino_networks, "code_digest", lambda code=code: code)
        load_pipeline("nano", backend="openvino")
    assert len(stand_ins) == len(entries(empty_home)) == 6


@needs_openvino
def test_a_folder_that_cannot_be_written_is_named_with_a_way_out(tmp_path, monkeypatch):
    (tmp_path / "openvino").write_text("a file", encoding="ascii")
    monkeypatch.setenv("DEPTHFM_HOME", str(tmp_path))
    with pytest.raises(OSError, match=f"{tmp_path}.*cannot be written.*DEPTHFM_HOME"):
        load_pipeline("nano", backend="openvino")


@needs_openvino
def test_where_pytorch_may_be_taken_a_folder_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch, caplog):
    (tmp_path / "openvino").write_text("a file", encoding="ascii")
    monkeypatch.setenv("DEPTHFM_HOME", str(tmp_path))
    monkeypatch.setattr(loading, "choose_backend", lambda *_args: "openvino")
    assert isinstance(load_pipeline("nano").codec, LatentCodec)
    assert "OpenVINO is not used" in caplog.text and "cannot be written" in caplog.text


def test_openvino_where_it_cannot_be_used_says_what_to_do(monkeypatch):
    for device, attention, word in (("cuda", "plain", "--device cpu"), ("cpu", "rescaled", "plain attention")):
        with pytest.raises(ValueError, match=word):
            choose_backend("openvino", torch.device(device), attention, 1)
        assert choose_backend("auto", torch.device(device), attention, 10**9) == "torch"
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ValueError, match=r'pip install -e "\.\[openvino\]"'):
        choose_backend("openvino", CPU, "plain", 1)
    assert choose_backend("auto", CPU, "plain", 10**9) == "torch"
    with pytest.raises(ValueError, match="no decoder and no compile"):
        choose_backend("openvino", CPU, "plain", 1, ["decoder", "compile"])
    with pytest.raises(ValueError, match=f"'onnx'; choose one of {', '.join(BACKENDS)}"):
        choose_backend("onnx", CPU, "plain", 1)


@needs_openvino
@pytest.mark.parametrize(
    ("amd", "num_parameters", "backend"), [(True, 10**9, "openvino"), (True, 10**7, "torch"), (False, 10**9, "torch")]
)
def test_auto_is_openvino_for_large_networks_on_processors_where_it_was_measured_to_pay(
    monkeypatch, amd, num_parameters, backend
):
    monkeypatch.setattr(choice, "_cpu_is_amd", lambda: amd)
    assert choose_backend("auto", CPU, "plain", num_parameters) == backend


@needs_openvino
def test_predict_and_methods_take_a_backend(home, photo, tmp_path, capsys):
    options = ["--resolution", "32", "--steps", "1", "--save", "npy", "--backend"]
    depths = []
    for backend in ("torch", "openvino"):
        assert main(["predict", str(photo), "--output", str(tmp_path / backend), *options, backend]) == 0
        depths.append(torch.from_numpy(numpy.load(next((tmp_path / backend).glob("*.npy")))))
    assert not torch.equal(*depths)
    torch.testing.assert_close(*depths, rtol=0, atol=1e-4)
    assert main(["predict", str(photo), *options, "openvino", "--attention", "rescaled"]) == 2
    assert "plain attention only" in capsys.readouterr().err
    settings = replace(SETTINGS, processing_resolution=32)
    methods = [load_method("nano", MethodOptions(settings=settings, backend=b)) for b in ("torch", "openvino")]
    found, expected = (method(images()) for method in methods)
    assert methods[0].num_calls == methods[1].num_calls == 4
    assert [method.made_with["backend"] for method in methods] == ["torch", "openvino"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
