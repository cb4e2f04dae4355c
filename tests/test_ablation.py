"""The ablations' arms, what they are measured by, and a whole run with toy settings."""

import csv
import shutil
import time
from dataclasses import fields, replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from depthfm_core.__main__ import main
from depthfm_core.loading import load_pipeline
from depthfm_core.training.ablation import data
from depthfm_core.training.ablation.arms import ARMS, BASE, CALLS, EXPERIMENTS, AblationSettings, Claim, arms_of
from depthfm_core.training.ablation.networks import build_arm_network, train_prior
from depthfm_core.training.ablation.results import judge, leads
from depthfm_core.training.ablation.run import _run_missing, run_ablation
from depthfm_core.training.ablation.scores import measure_arm, read_scores, scores_path
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a whole toy run through the command line."""
    output = tmp_path_factory.mktemp("ablation")
    assert main(["ablate", "--output", str(output), *OPTIONS]) == 0
    return output


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


def test_the_table_has_every_arm_beside_the_papers_number(finished, capsys):
    table = (finished / "ablations.md").read_text(encoding="utf-8")
    for experiment in EXPERIMENTS.values():
        section = table.split(f"### {experiment.title}\n")[1].split("###")[0]
        for arm, label in experiment.arms.items():
            row = next(line for line in section.splitlines() if line.startswith(f"| {label} |"))
            assert row.count("±") == 2 * len(CALLS)
            assert all(str(value) in row for (name, _), value in experiment.published.items() if name == arm)
        assert section.count("- Paper: ") == len(experiment.claims)
    with Image.open(finished / "ablations.png") as plot:
        assert plot.width > 1000


def test_the_csv_has_a_line_for_each_arm_seed_domain_and_number_of_calls(finished):
    with open(finished / "ablations.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(ARMS) * TOY.seeds * len(data.DOMAINS) * len(CALLS)
    assert all(0 <= float(row["delta1"]) <= 1 and float(row["abs_rel"]) > 0 for row in rows)


def test_only_the_named_experiment_is_run_and_told(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "copy")
    for name in ARMS:
        scores_path(tmp_path / "copy", name, 0).unlink()
    assert main(["ablate", "--output", str(tmp_path / "copy"), *OPTIONS, "--only", "pseudo"]) == 0
    made = {name for name in ARMS if scores_path(tmp_path / "copy", name, 0).exists()}
    assert made == set(arms_of(["pseudo"])) != set(ARMS)
    printed = capsys.readouterr().out
    assert [key for key, experiment in EXPERIMENTS.items() if experiment.title in printed] == ["pseudo"]


def test_arms_and_seeds_differ(finished):
    scores = [str(read_scores(scores_path(finished, name, seed))) for name in ARMS for seed in range(TOY.seeds)]
    assert len(set(scores)) == len(scores)


def test_what_is_missing_is_made_again_alike_by_other_processes_and_nothing_else_is(finished, capfd):
    one, other = scores_path(finished, "pseudo_10", 1), scores_path(finished, BASE, 0)
    before, untouched = read_scores(one), other.stat().st_mtime_ns
    one.unlink()
    for path in (finished / "arms" / "pseudo_10-1").iterdir():
        path.unlink()
    run_ablation(TOY, ["pseudo"], finished, workers=2)
    assert other.stat().st_mtime_ns == untouched
    said = capfd.readouterr().err  # one bar, of all trainings, and none of the processes'
    assert "arms:" in said and "pseudo_10-1" not in said
    for domain, by_calls in read_scores(one).items():
        for calls, values in by_calls.items():
            assert values == pytest.approx(before[domain][calls], abs=1e-3)


def test_other_settings_need_another_folder(finished, capsys):
    assert main(["ablate", "--output", str(finished), *OPTIONS, "--seeds", "3"]) == 2
    assert "begun with other settings (seeds was 2 and is 3); choose another folder" in capsys.readouterr().err


def test_a_tenth_of_the_photographs_is_a_tenth(finished):
    sizes = [len(data.latents_of(ARMS[name], finished)) for name in (BASE, "pseudo_10", "pseudo_100")]
    assert sizes == [TOY.frames, TOY.frames * 1.1, TOY.frames * 2]


def test_a_prior_starts_both_inputs_of_an_arm_alike(finished):
    weights = train_prior(TOY, data.latents_of(ARMS[BASE], finished), 0, finished / "again")
    first, second = weights["conv_in.weight"].chunk(2, dim=1)
    assert torch.equal(first, second)
    network = build_arm_network(TOY, 0, finished / "priors" / "0" / "network.safetensors")
    torch.testing.assert_close(network.unet.state_dict()["conv_in.weight"], weights["conv_in.weight"])


def test_a_scene_is_always_the_same_photograph_and_keeps_its_depth(finished):
    (frame, *_) = data.folder_frames(finished / "frames" / "held_out", "held_out")
    rendered, one, two = frame.read(), data.as_photograph(frame.read(), "a"), data.as_photograph(frame.read(), "a")
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.depth_m, rendered.depth_m)
    assert (one.image - rendered.image).abs().mean() > 0.01
    assert not torch.equal(data.as_photograph(rendered, "b").image, one.image)


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
