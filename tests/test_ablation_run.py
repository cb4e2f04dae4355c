"""A whole run of the ablations with toy settings: every arm is trained twice, which takes a minute or two."""

import csv
import shutil

import pytest
import torch
from PIL import Image

from depthfm_core.__main__ import main
from depthfm_core.training.ablation import data
from depthfm_core.training.ablation.arms import ARMS, BASE, CALLS, EXPERIMENTS, arms_of
from depthfm_core.training.ablation.networks import build_arm_network, train_prior
from depthfm_core.training.ablation.run import run_ablation
from depthfm_core.training.ablation.scores import read_scores, scores_path

from .test_ablation import OPTIONS, TOY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a whole toy run through the command line."""
    output = tmp_path_factory.mktemp("ablation")
    assert main(["ablate", "--output", str(output), *OPTIONS]) == 0
    return output


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
