"""Compared methods: their table, the call that all share, the sizes they see, and those that need no other library."""

import gc
import re
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from depthfm_core import EstimationSettings, load_pipeline
from depthfm_core.depth.align import align
from depthfm_core.evaluation.baselines import GIVES, METHODS, Method, MethodOptions, load_method
from depthfm_core.evaluation.baselines.method import counted_calls
from depthfm_core.evaluation.baselines.sizes import letterbox, midas_size
from depthfm_core.evaluation.published import TABLES
from depthfm_core.model.precision import DTYPES

DOCS = Path(__file__).parents[1] / "docs" / "baselines.md"


@pytest.fixture
def image():
    return torch.rand(1, 3, 30, 44, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_gives_how_to_fetch_it_and_which_options_it_takes(name):
    card = METHODS[name]
    assert card.gives in GIVES
    assert card.fetch and card.licence and card.size and card.source
    assert set(card.options) <= set(vars(MethodOptions()))
    assert not card.published or any(card.published in table.rows for table in TABLES.values())


@pytest.mark.parametrize("name", METHODS)
def test_the_documentation_has_every_method_with_its_command_its_weights_and_its_licence(name):
    row = next(line for line in DOCS.read_text(encoding="utf-8").splitlines() if f"| `{name}` |" in line)
    card = METHODS[name]
    model = name if card.weights else f"{name}=PATH"
    assert f"`python -m depthfm_core evaluate --model {model} --dataset nyu --root DIR`" in row
    assert card.licence in row
    assert f"| {card.gives} |" in row
    assert card.weights in row


def test_the_documentation_has_every_row_of_the_papers_table():
    text = DOCS.read_text(encoding="utf-8")
    rows = ("MiDaS", "Omnidata", "HDN", "DPT", "Depth Anything", "Depth Anything v2", "Metric3D v2", "Marigold")
    for row in (*rows, "GeoWizard", "DepthFM-I", "DepthFM-ID"):
        assert re.search(rf"^\| {row} \|.*python -m depthfm_core evaluate", text, re.MULTILINE), row


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'midass'.*midas.*marigold-v1-1"):
        load_method("midass")


@pytest.mark.parametrize("name", [name for name, card in METHODS.items() if not card.weights])
def test_a_method_without_published_weights_asks_for_a_path(name):
    with pytest.raises(ValueError, match=f"{name} needs a path.*{name}="):
        load_method(name)


@pytest.mark.parametrize("name", METHODS)
def test_an_option_that_a_method_does_not_take_is_refused(name):
    values = {
        "settings": EstimationSettings(),
        "vae": "a",
        "attention": "plain",
        "dtype": "float32",
        "domain": "indoor",
    }
    for option in set(vars(MethodOptions())) - {"device", *METHODS[name].options}:
        with pytest.raises(ValueError, match=f"{name} has no {option}; it takes device"):
            load_method(f"{name}=nowhere", MethodOptions(**{option: values.get(option, 1)}))


def test_a_map_of_any_leading_shape_becomes_one_channel_of_float32(image):
    method = Method("m", "depth", lambda image: (image[0, 0].double(), 3))
    found = method(image)
    assert found.dtype == torch.float32 and found.shape == (1, 1, 30, 44)
    assert torch.equal(found[0, 0], image[0, 0])
    assert method.num_calls == 3


def test_a_map_of_several_channels_or_with_nan_is_refused(image):
    with pytest.raises(ValueError, match=r"\[1, 3, 30, 44\]"):
        Method("m", "depth", lambda image: (image, 1))(image)
    with pytest.raises(ValueError, match="finite"):
        Method("m", "depth", lambda image: (image[:, 0] * torch.nan, 1))(image)


@pytest.mark.parametrize("bad", [torch.rand(3, 8, 8), torch.rand(2, 3, 8, 8), torch.rand(1, 3, 8, 8) + 1])
def test_an_image_of_another_shape_or_range_is_refused(bad):
    with pytest.raises(ValueError, match="image"):
        load_method("ramp")(bad)


def test_the_constant_aligns_to_the_geometric_mean_and_the_ramp_finds_a_floor(image):
    rows = torch.linspace(2, 0.5, 30).view(1, 1, -1, 1).expand(1, 1, -1, 44)
    depth_m, valid = rows.exp(), torch.ones(1, 1, 30, 44, dtype=torch.bool)
    constant = align(load_method("constant")(image), depth_m, valid, "log")
    assert torch.allclose(constant, torch.full_like(constant, rows.mean().exp().item()))
    assert torch.allclose(align(load_method("ramp")(image), depth_m, valid, "log"), depth_m, atol=1e-5)
    assert load_method("ramp")(image)[0, 0, 0, 0] > load_method("ramp")(image)[0, 0, -1, 0]


@pytest.mark.parametrize(("steps", "solver", "members", "calls"), [(1, "euler", 1, 1), (2, "midpoint", 3, 12)])
def test_nano_gives_the_pipelines_log_depth_and_counts_every_members_calls(image, steps, solver, members, calls):
    settings = EstimationSettings(num_steps=steps, solver=solver, ensemble_size=members, members_at_once=2)
    method = load_method("nano", MethodOptions(settings=settings))
    assert torch.equal(method(image), load_pipeline("nano")(image, settings).log_depth)
    assert method.num_calls == calls


def test_a_depthfm_tells_whether_its_depth_is_sharpened(golden_dir):
    model, vae = golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors"
    for name, suits in (("nano", True), (f"depthfm={model}", False)):  # the second one works at 512 pixels
        for chosen in (None, True, False):
            options = MethodOptions(
                settings=EstimationSettings(sharpen_edges=chosen), vae=None if name == "nano" else str(vae)
            )
            assert load_method(name, options).made_with["sharpen_edges"] is (suits if chosen is None else chosen)


@pytest.mark.parametrize("asked", DTYPES)
def test_a_depthfm_tells_the_precision_that_it_computes_in_whatever_was_asked_for(asked, monkeypatch):
    for has_bfloat16 in (False, True):
        monkeypatch.setattr("depthfm_core.model.precision.cpu_multiplies_bfloat16", lambda has=has_bfloat16: has)
        monkeypatch.setattr("depthfm_core.model.precision.LARGE_NETWORK", 1)  # of these sizes nano is one
        own = "bfloat16" if has_bfloat16 else "float32"
        made_with = load_method("nano", MethodOptions(dtype=asked)).made_with
        assert (made_with["dtype"], made_with["backend"]) == (own if asked == "auto" else asked, "torch")


def test_nano_goes_as_soon_as_nobody_holds_it():
    """The next method's weights take its place in a GPU's memory."""
    gc.disable()  # a cycle would wait for the collector
    try:
        method = load_method("nano")
        method(torch.rand(1, 3, 16, 16))
        gone = weakref.ref(method)
        del method
        assert gone() is None
    finally:
        gc.enable()


def test_a_path_alone_is_a_depthfm_checkpoint(image):
    from depthfm_core.model.catalog import NANO_PATH

    by_path = load_method(str(NANO_PATH))
    assert by_path.name == "depthfm"
    assert torch.equal(by_path(image), load_method(f"depthfm={NANO_PATH}")(image))
    assert torch.equal(by_path(image), load_method("nano")(image))


def test_the_options_of_a_depthfm_reach_the_pipeline(image):
    plain = load_method("nano")(image)
    assert not torch.equal(load_method("nano", MethodOptions(attention="rescaled"))(image), plain)
    assert not torch.equal(load_method("nano", MethodOptions(dtype="bfloat16"))(image), plain)
    other = replace(EstimationSettings(), seed=5)
    assert not torch.equal(load_method("nano", MethodOptions(settings=other))(image), plain)
    with pytest.raises(ValueError, match="leave out vae"):
        load_method("nano", MethodOptions(vae="nowhere"))


def test_calls_are_counted_by_the_batch_and_only_inside():
    network = torch.nn.Linear(2, 2)
    with counted_calls(network) as calls:
        network(torch.zeros(3, 2))
        network(torch.zeros(1, 2))
    network(torch.zeros(1, 2))
    assert calls == [3, 1]


# Worked out by hand from isl-org/MiDaS: 384 / 480 = 0.8 and 384 / 640 = 0.6, of which 0.8 is nearer to 1.
@pytest.mark.parametrize(
    ("bound", "size", "expected"),
    [
        ("upper", (480, 640), (288, 384)),
        ("minimal", (480, 640), (384, 512)),
        ("lower", (480, 640), (384, 512)),
        ("minimal", (352, 1216), (384, 1312)),
        ("upper", (1, 4000), (32, 384)),
    ],
)
def test_midas_sizes_are_the_published_ones(bound, size, expected):
    assert midas_size(size, 384, bound) == expected


@pytest.mark.parametrize(
    ("size", "where"), [((20, 10), (slice(0, 30), slice(13, 28))), ((10, 41), (slice(10, 20), slice(0, 41)))]
)
def test_a_letterboxed_picture_lies_centered_on_the_color_and_can_be_cut_out_again(size, where):
    framed, found = letterbox(torch.full((1, 3, *size), 0.5), (30, 41), torch.tensor([0.1, 0.2, 0.3]))
    assert framed.shape == (1, 3, 30, 41) and found == where
    inside = torch.zeros(30, 41, dtype=torch.bool)
    inside[where] = True
    assert (framed[..., inside] == 0.5).all()
    assert torch.equal(framed[0][:, ~inside].unique(dim=1), torch.tensor([[0.1], [0.2], [0.3]]))
