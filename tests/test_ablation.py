"""The ablations' arms and what they are measured by; a whole run is in `test_ablation_run.py`."""

import time
from dataclasses import fields, replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from depthfm_core.__main__ import main
from depthfm_core.loading import load_pipeline
from depthfm_core.training.ablation.arms import ARMS, BASE, CALLS, EXPERIMENTS, AblationSettings, Claim, arms_of
from depthfm_core.training.ablation.results import judge, leads
from depthfm_core.training.ablation.run import _run_missing
from depthfm_core.training.ablation.scores import measure_arm
from depthfm_core.training.latents import encode
from depthfm_core.training.target import NormalizationSettings, normalize_target
from depthfm_core.training.validation import HeldOut

TOY = AblationSettings(
    seeds=2,
    num_steps=2,
    prior_steps=2,
    teacher_steps=2,
    batch_size=2,
    frames=10,
    held_out=3,
    views_per_frame=1,
    height_px=32,
    width_px=64,
)
OPTIONS = [
    text for field in fields(TOY) for text in (f"--{field.name.replace('_', '-')}", str(getattr(TOY, field.name)))
]


def test_every_arm_differs_from_the_base_in_one_thing():
    for name, arm in ARMS.items():
        changed = [
            f.name for f in fields(arm) if f.name != "label" and getattr(arm, f.name) != getattr(ARMS[BASE], f.name)
        ]
        assert len(changed) == (name != BASE)


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_claims_are_what_the_papers_numbers_say(experiment):
    sign = 1 if experiment.metric == "delta1" else -1
    for claim in experiment.claims:
        better, worse = (experiment.published[name, claim.calls] for name in (claim.better, claim.worse))
        assert sign * (better - worse) >= (0.3 if experiment.metric == "delta1" else 0.01)
        assert {claim.better, claim.worse} <= set(experiment.arms)


def test_unknown_experiments_are_refused():
    with pytest.raises(ValueError, match="source, prior, noise, pseudo, space"):
        arms_of(["nothing"])


def results(better, worse):
    """Scores of two arms with some seeds, the same for every domain and number of calls."""
    return {
        name: [{"rendered": {"10": {"delta1": value, "abs_rel": 1 - value}}} for value in values]
        for name, values in (("base", better), ("no_prior", worse))
    }


@pytest.mark.parametrize(
    ("better", "worse", "word"),
    [((0.6, 0.7), (0.5, 0.6), "holds"), ((0.5, 0.6), (0.6, 0.7), "fails"), ((0.6, 0.6), (0.5, 0.7), "is open")],
)
def test_a_claim_needs_every_seed(better, worse, word):
    claim = Claim("base", "no_prior", 10)
    for metric in ("delta1", "abs_rel"):
        experiment = replace(EXPERIMENTS["prior"], metric=metric)
        assert judge(leads(claim, experiment, results(better, worse), "rendered")) == word


class Oracle(torch.nn.Module):
    """The velocity that leads to one known latent from anywhere."""

    def __init__(self, x_1):
        super().__init__()
        self.x_1, self.device, self.dtype = x_1, x_1.device, x_1.dtype
        self.hyper = SimpleNamespace(channels=(1,))

    def forward(self, x_t, t, image_latent):
        return (self.x_1 - x_t) / (1 - t)[:, None, None, None]


@pytest.mark.parametrize("space", ["log", "linear"])
def test_a_network_that_knows_the_depth_scores_nearly_all_in_its_own_space(space):
    row = torch.linspace(0, 1, 64).expand(32, 64)
    depth_m = torch.stack([1 + 5 * row, 2 * torch.exp(1.5 * row)])[:, None]
    valid = torch.ones_like(depth_m, dtype=torch.bool)
    settings = NormalizationSettings(0, 100, space)
    pictures = torch.stack([normalize_target(*pair, settings) for pair in zip(depth_m, valid, strict=True)])
    codec = load_pipeline("nano").codec
    network = Oracle(encode(codec, pictures.expand(-1, 3, -1, -1)))
    held_out = {"rendered": HeldOut(torch.zeros_like(network.x_1), depth_m, valid, pictures)}
    scores = measure_arm(network, replace(ARMS[BASE], space=space), codec, held_out)["rendered"]
    assert all(scores[str(calls)]["delta1"] > 0.97 for calls in CALLS)
    other = {"log": "linear", "linear": "log"}[space]
    assert measure_arm(network, replace(ARMS[BASE], space=other), codec, held_out)["rendered"]["1"] != scores["1"]


def test_linear_depth_is_affine_in_depth_in_any_unit():
    depth_m = torch.linspace(1, 9, 64).view(1, 8, 8)
    valid = torch.ones_like(depth_m, dtype=torch.bool)
    for unit in (1.0, 3.28):
        out = normalize_target(unit * depth_m, valid, NormalizationSettings(0, 100, "linear"))
        torch.testing.assert_close(out, (depth_m - 5) / 4, atol=1e-5, rtol=0)
    log = normalize_target(depth_m, valid, NormalizationSettings(0, 100, "log"))
    torch.testing.assert_close(log, depth_m.log() / torch.tensor(9.0).log() * 2 - 1, atol=1e-5, rtol=0)


def test_unknown_spaces_are_refused():
    with pytest.raises(ValueError, match="choose one of log, linear"):
        NormalizationSettings(space="cubic")


@pytest.mark.parametrize(("name", "value"), [("num_steps", 0), ("height_px", 100), ("frames", 9), ("frames", 100_001)])
def test_budgets_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        AblationSettings(**{name: value})


def test_the_workers_of_the_command_line_are_those_of_the_run(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("depthfm_core.training.ablation.run.run_ablation", lambda *of: asked.append(of))
    monkeypatch.setattr("depthfm_core.training.ablation.report.write_report", lambda *_of: "")
    assert main(["ablate", "--output", str(tmp_path), *OPTIONS, "--workers", "3", "--only", "space", "noise"]) == 0
    assert asked == [(TOY, ["space", "noise"], tmp_path, 3)]


def _fail_or_write(path, fails):
    if fails:
        raise OSError("the disk is full")
    time.sleep(0.2)
    path.write_text("done", encoding="utf-8")


def test_a_training_that_fails_ends_the_others_that_have_not_begun(tmp_path):
    paths = [tmp_path / str(index) for index in range(60)]
    jobs = {path: partial(_fail_or_write, path, path.name == "0") for path in paths}
    with pytest.raises(OSError, match="the disk is full"):
        _run_missing(jobs, "arms", 2)
    assert not paths[-1].exists()
