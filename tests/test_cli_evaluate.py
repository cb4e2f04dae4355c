import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from depthfm_core import loading
from depthfm_core.__main__ import main
from depthfm_core.depth.align import ALIGNMENTS
from depthfm_core.evaluation.baselines import METHODS
from depthfm_core.evaluation.baselines.method import Estimator
from depthfm_core.evaluation.fingerprint import fingerprint
from depthfm_core.evaluation.share import Share
from depthfm_core.evaluation.table import read_rows
from depthfm_core.model.bundled import NANO_PATH

ROOT = Path(__file__).parents[1]
SIZE = (40, 48)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Three pictures whose depth is a ramp in log depth down the rows, and one without measured depth."""
    folder = tmp_path_factory.mktemp("pairs")
    log_depth = np.linspace(1.5, 0, SIZE[0])[:, None] + np.zeros(SIZE)
    for index, name in enumerate(("a", "b", "c", "empty")):
        (folder / name).mkdir()
        pixels = np.random.default_rng(index).integers(0, 255, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name / "image.png")
        depth_m = np.exp(log_depth + 0.05 * index).astype(np.float32) * (name != "empty")
        np.save(folder / name / "depth.npy", depth_m)
    return folder


@pytest.fixture
def evaluated(pairs, tmp_path, capsys):
    """Runs `evaluate` on the pairs; gives the folder, the report's JSON and what was printed."""

    def run(*options, output="out", code=0):
        folder = tmp_path / output
        assert main(["evaluate", "--dataset", str(pairs), "--output", str(folder), *options]) == code
        printed = capsys.readouterr()
        if code:
            return printed.err
        return folder, json.loads((folder / "report.json").read_text(encoding="utf-8")), printed.out

    return run


def method(report, name):
    return next(found for found in report["methods"] if found["name"] == name)


def test_nano_stands_beside_the_baselines_and_the_ramp_is_perfect_on_a_ramp(evaluated):
    folder, report, printed = evaluated()
    assert [found["name"] for found in report["methods"]] == ["nano", "constant", "ramp"]
    ramp, constant = method(report, "ramp"), method(report, "constant")
    assert ramp["scores"]["log.abs_rel"] == pytest.approx(0, abs=1e-5)
    assert ramp["scores"]["log.delta1"] == 1
    assert constant["scores"]["log.abs_rel"] > 0.3
    assert method(report, "nano")["weights"].startswith("sha256:")
    assert all((found["num_images"], found["num_skipped"]) == (3, 1) for found in report["methods"])
    assert "| nano " in printed and "3 (+1 empty)" in printed


def test_the_report_is_there_in_three_forms_with_its_pictures(evaluated):
    folder, report, printed = evaluated("--model", "constant", "ramp", "--worst", "2")
    page = (folder / "report.html").read_text(encoding="utf-8")
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert markdown.strip() in printed
    pictures = sorted((folder / "constant" / "worst").glob("*.png"))
    assert len(pictures) == 2
    for picture in pictures:
        path = picture.relative_to(folder).as_posix()
        assert path in page and path in markdown
    assert page.count("<table>") == markdown.count("\n## ") - 2  # notes and pictures are no tables


def test_what_was_measured_is_not_measured_again(evaluated, monkeypatch):
    evaluated("--model", "ramp")

    def never(*_args):
        raise AssertionError("the method was loaded again")

    monkeypatch.setattr("depthfm_core.cli.evaluate.load_method", never)
    _, report, _ = evaluated("--model", "ramp")
    assert method(report, "ramp")["num_images"] == 3


def test_other_settings_need_another_output(evaluated):
    evaluated("--model", "ramp", "--align", "log")
    assert "alignments was ['log'] and is ['scale']" in evaluated("--model", "ramp", "--align", "scale", code=2)


def test_another_folder_with_the_same_names_needs_another_output(evaluated, pairs, tmp_path):
    shutil.copytree(pairs, tmp_path / "copy")
    for root, code in ((pairs, 0), (pairs, 0), (tmp_path / "copy", 2)):
        options = ("--dataset", "folder", "--root", str(root), "--model", "ramp", "--output", str(tmp_path / "results"))
        assert main(["evaluate", *options]) == code


def test_results_of_an_earlier_version_that_kept_no_root_are_gone_on_with(evaluated):
    folder, _, _ = evaluated("--model", "ramp", "--limit", "1")
    path = folder / "ramp" / "settings.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    assert settings.pop("root")
    path.write_text(json.dumps(settings), encoding="utf-8")
    evaluated("--model", "ramp")


def test_the_same_folder_and_list_may_be_spelled_otherwise(evaluated, pairs, tmp_path, monkeypatch):
    (tmp_path / "list.txt").write_text("a\nb\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for dataset, split in ((str(pairs), "list.txt"), (f"{pairs}/", str(tmp_path / "list.txt"))):
        command = ("--dataset", dataset, "--split", split, "--model", "ramp", "--output", str(tmp_path / "results"))
        assert main(["evaluate", *command]) == 0


def test_a_folder_that_is_the_data_set_takes_no_root(evaluated):
    assert "is a folder itself; leave --root elsewhere out" in evaluated("--root", "elsewhere", code=2)


@pytest.mark.parametrize("option", ["--baseline-steps", "--baseline-ensemble"])
def test_numbers_of_a_baseline_start_at_one(evaluated, option):
    assert f"{option} is 0; choose 1 or more" in evaluated("--model", "marigold-v1-0", option, "0", code=2)


def test_models_whose_names_are_no_folder_names_have_a_folder_each(pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = ["./nano.safetensors", "模.safetensors", "型.safetensors"]
    for model in models:
        shutil.copy(NANO_PATH, model)
    options = ("--dataset", str(pairs), "--limit", "1", "--output", "out", "--resolution", "32")
    for _ in range(2):
        assert main(["evaluate", *options, "--model", *models]) == 0
    folders = [path for path in Path("out").iterdir() if path.is_dir()]
    assert len(folders) == 3 and not any(path.name.startswith(".") for path in folders)


def test_a_report_tells_what_the_loaded_weights_give(evaluated, monkeypatch):
    def metric(model, _options):
        return Estimator(model, "depth_m", lambda image: (image.mean(1) + 1, 1))

    monkeypatch.setattr("depthfm_core.cli.evaluate.load_method", metric)
    for _ in range(2):  # the second time nothing is loaded
        _, report, _ = evaluated("--model", "ramp", "--align", "scale")
        assert method(report, "ramp")["gives"] == "depth_m"


def test_a_limit_holds_for_the_pictures_too(evaluated):
    for options, shown in (((), 3), (("--limit", "1"), 1)):
        folder, _, _ = evaluated("--model", "constant", *options)
        assert (folder / "report.md").read_text(encoding="utf-8").count("![constant on ") == shown


def test_an_alignment_that_one_method_does_not_have_is_refused_before_the_first_is_measured(evaluated, tmp_path):
    said = evaluated("--model", "ramp", "depth-anything-v2", "--align", "affine", code=2)
    assert (
        "depth-anything-v2 gives disparity, which cannot be aligned by 'affine'" in said
        and not (tmp_path / "out").exists()
    )
    said = evaluated("--model", f"depth-anything-v2={tmp_path / 'metric'}", "--align", "affine", code=2)
    assert "cannot be aligned" not in said  # what weights at a path give is known once they are loaded


def test_the_report_says_what_is_the_models_own(evaluated):
    _, report, _ = evaluated("--model", "nano", "--limit", "1", "--steps", "1")
    assert "processing_resolution of the model" in report["facts"]["DepthFM settings"]
    _, report, _ = evaluated("--model", "ramp")
    assert "DepthFM settings" not in report["facts"]


def test_the_report_says_by_which_options_each_method_was_run(evaluated, golden_dir):
    checkpoint, vae = golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors"
    options = ("--vae", str(vae), "--dtype", "bfloat16", "--resolution", "32", "--limit", "1")
    folder, report, _ = evaluated("--model", str(checkpoint), "ramp", *options)
    made_with = method(report, str(checkpoint))["made_with"]
    digest = made_with["beside"]["vae"]
    assert made_with == {
        **{"num_steps": 2, "solver": "euler", "ensemble_size": 1, "seed": 0},
        "processing_resolution": 32,
        "vae": str(vae),
        "dtype": "bfloat16",
        "beside": {"vae": fingerprint(str(vae))},
    }
    assert method(report, "ramp")["made_with"] == {}
    for name in ("report.md", "report.html"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "dtype bfloat16" in text and digest[:19] in text and digest not in text


def test_pictures_that_an_earlier_run_did_not_make_are_told(evaluated):
    said = {}
    for count in ("1", "3"):
        _, report, _ = evaluated("--model", "constant", "--worst", count)
        said[count] = [note for note in report["notes"] if "have no picture" in note]
    assert not said["1"]
    assert said["3"][0].startswith("Of the largest errors 2 have no picture")


def test_other_processes_leave_the_folders_to_the_first_and_wait_for_it(evaluated, pairs, tmp_path, monkeypatch):
    def first_comes():
        if not waited:
            evaluated("--model", "ramp", "--limit", "1")
        waited.append(sorted(path.name for path in (tmp_path / "out" / "ramp").iterdir()))

    waited = []
    shares = [Share(1, 2, first_comes), Share()]
    monkeypatch.setattr("depthfm_core.cli.evaluate.this_share", lambda: shares.pop(0))
    command = ["evaluate", "--dataset", str(pairs), "--model", "ramp", "--output", str(tmp_path / "out")]
    assert main(command) == 0
    assert "settings.json" in waited[0] and "images.1.csv" in waited[1]


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_each_alignment_is_measured_where_it_is_chosen(evaluated, alignment):
    _, report, _ = evaluated("--model", "ramp", "--align", alignment)
    assert {name.partition(".")[0] for name in method(report, "ramp")["scores"]} == {alignment}


def test_ransac_leaves_wrong_measurements_out_of_the_fit_and_is_named_in_the_report(pairs, tmp_path):
    damaged, found = tmp_path / "damaged", {}
    shutil.copytree(pairs / "a", damaged / "a")
    depth_m = np.load(damaged / "a" / "depth.npy")
    depth_m[:8] = 0.1
    np.save(damaged / "a" / "depth.npy", depth_m)
    for name, options in (("all", ()), ("ransac", ("--ransac",))):
        folder = tmp_path / name
        command = ("evaluate", "--dataset", str(damaged), "--model", "ramp", "--align", "log", "--output", str(folder))
        assert main([*command, *options]) == 0
        found[name] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    scores = {name: method(report, "ramp")["scores"]["log.delta1"] for name, report in found.items()}
    assert scores["ransac"] == pytest.approx(0.8) and scores["all"] < 0.7
    assert "RANSAC" in found["ransac"]["facts"]["fitted to"] and "RANSAC" not in found["all"]["facts"]["fitted to"]


def test_limit_measures_the_first_images_alone(evaluated):
    folder, report, _ = evaluated("--model", "ramp", "--limit", "2")
    assert set(read_rows(folder / "ramp")) == {"a", "b"}
    assert method(report, "ramp")["num_images"] == 2


def test_the_steps_and_the_ensemble_reach_nano(evaluated):
    _, report, _ = evaluated("--model", "nano", "--steps", "1", "--ensemble", "3", "--limit", "1", "--resolution", "32")
    assert method(report, "nano")["cost"]["num_calls"] == 3
    assert {"spearman", "ause", "calibration_error"} <= set(method(report, "nano")["scores"])


def test_results_of_another_autoencoder_in_the_same_place_are_not_gone_on_with(evaluated, golden_dir, tmp_path):
    vae = tmp_path / "vae.safetensors"
    shutil.copy(golden_dir / "micro-vae-diffusers.safetensors", vae)
    options = ("--model", str(golden_dir / "depthfm-micro-heads8.ckpt"), "--vae", str(vae), "--resolution", "32")
    evaluated(*options, "--limit", "1")
    save_file({name: tensor * 1.01 for name, tensor in load_file(vae).items()}, vae)
    assert "holds results of other settings (beside.vae was" in evaluated(*options, code=2)


def test_a_checkpoint_is_named_by_its_path(evaluated, golden_dir):
    checkpoint, vae = golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors"
    options = ("--vae", str(vae), "--resolution", "32", "--limit", "1")
    _, report, _ = evaluated("--model", str(checkpoint), "nano", *options)
    assert all(measured["scores"]["log.abs_rel"] > 0 for measured in report["methods"])
    _, alone, _ = evaluated("--model", "nano", *options[2:])
    assert method(report, "nano")["scores"] == method(alone, "nano")["scores"]  # which the --vae is not for


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--dataset", "nowhere"), "There is no data set or folder 'nowhere'"),
        (("--dataset", "nyu"), "add --root DIR"),
        (("--model", "nothing"), "There is no method or file 'nothing'"),
        (("--limit", "0"), "--limit is 0"),
        (("--worst", "-1"), "--worst is -1"),
        (("--domain", "indoor"), "takes --domain"),
        (("--model", "nano", "--vae", "x"), "None of nano takes --vae"),
        (("--model", "nano", "--decoder", "x"), "None of nano takes --decoder"),
        (("--kitti-mask", "garg"), "KITTI"),
        (("--steps", "0"), "num_steps is 0"),
        (("--model", "ramp", "--align", "scale", "--ransac"), "ransac fits scale and shift"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_leaves_nothing_behind(evaluated, tmp_path, options, told):
    error = evaluated(*options, code=2)
    assert told in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("images*.csv"))


def test_two_processes_measure_what_one_does(pairs, tmp_path):
    command = ["-m", "depthfm_core", "evaluate", "--dataset", str(pairs), "--model", "constant", "ramp", "--output"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for start in ([sys.executable, *command, "one"], [*launch, *command, "two"]):
        folder = tmp_path / start[-1]
        subprocess.run([*start[:-1], str(folder)], cwd=ROOT, env=environment, check=True, capture_output=True)
    one, two = (json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8")) for name in ("one", "two"))
    assert sorted(path.name for path in (tmp_path / "two/ramp").glob("images*")) == ["images.0.csv", "images.1.csv"]
    assert [found["scores"] for found in two["methods"]] == [found["scores"] for found in one["methods"]]


def test_a_method_that_cannot_be_loaded_is_named_after_the_others_are_measured_and_reported(evaluated, tmp_path):
    said = evaluated("--model", "marigold-v1-0=nowhere", "ramp", "depthfm=nothing", code=2)
    assert said.count("\n") == 1 and "ramp was not" not in said
    for model in ("marigold-v1-0=nowhere", "depthfm=nothing"):
        assert f"{model} was not measured: " in said
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [found["name"] for found in report["methods"]] == ["ramp"]
    assert report["facts"]["asked for, but not measured whole"] == "marigold-v1-0=nowhere, depthfm=nothing"
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["ramp"]


def test_a_method_that_fails_on_an_image_keeps_what_it_measured_and_is_not_in_the_report(evaluated, monkeypatch):
    def tired(model, _options):
        def estimate(image):
            seen.append(1)
            if len(seen) == 2:
                raise RuntimeError("broke down")
            return image.mean(1), 1

        return Estimator(model, "depth_m", estimate)

    seen, folder = [], None
    with monkeypatch.context() as patch:
        patch.setattr("depthfm_core.cli.evaluate.load_method", tired)
        assert "ramp was not measured: b: broke down" in evaluated("--model", "ramp", "constant", code=2)
    folder, report, _ = evaluated("--model", "constant")
    assert [found["name"] for found in report["methods"]] == ["constant"]
    assert set(read_rows(folder / "ramp")) == {"a"}


def test_the_report_says_what_a_method_was_run_with_also_where_nothing_is_loaded_again(evaluated, monkeypatch):
    def load(model, _options):
        return Estimator(model, "depth", lambda image: (image.mean(1), 1), made_with={"num_steps": 50, "seed": 1234})

    monkeypatch.setattr("depthfm_core.cli.evaluate.load_method", load)
    for _ in range(2):
        folder, report, _ = evaluated("--model", "ramp", "--align", "affine")
        assert method(report, "ramp")["made_with"] == {"num_steps": 50, "seed": 1234}
        assert "num_steps 50, seed 1234" in (folder / "report.md").read_text(encoding="utf-8")


def test_weights_and_the_files_beside_them_are_read_no_oftener_than_needed(evaluated, golden_dir, monkeypatch):
    def counting(name, function):
        return lambda *arguments: (calls.append((name, *arguments)), function(*arguments))[1]

    calls = []
    for place in ("evaluate_plan", "methods"):
        monkeypatch.setattr(f"depthfm_core.cli.{place}.fingerprint", counting("digest", fingerprint))
    monkeypatch.setattr(loading, "load_checkpoint", counting("load", loading.load_checkpoint))
    checkpoint, vae = golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors"
    evaluated("--model", str(checkpoint), "--vae", str(vae), "--resolution", "32", "--limit", "1")
    assert sorted(call for call in calls if call[0] == "digest") == [("digest", str(checkpoint)), ("digest", str(vae))]
    assert len([call for call in calls if call[0] == "load"]) == 2  # does it take a --vae; then to run it


def test_processes_but_the_first_read_no_weights_for_a_digest(evaluated, pairs, tmp_path, monkeypatch):
    digests, folder = [], tmp_path / "out" / "ramp"
    second = Share(1, 2, lambda: folder.mkdir(parents=True, exist_ok=True))  # as the first process does
    monkeypatch.setattr("depthfm_core.cli.evaluate_plan.fingerprint", lambda weights: digests.append(weights) or "")
    monkeypatch.setattr("depthfm_core.cli.evaluate.this_share", lambda: second)
    assert main(["evaluate", "--dataset", str(pairs), "--model", "ramp", "--output", str(folder.parent)]) == 0
    assert not digests and set(read_rows(folder)) == {"b", "empty"}


def test_a_missing_package_is_told_before_anything_is_measured_unless_nothing_is_left_to_measure(
    evaluated, tmp_path, monkeypatch
):
    evaluated("--model", "ramp", "--limit", "1", output="done")
    needy = replace(METHODS["ramp"], needs={"no_such_package": "pip install no-such-package"})
    monkeypatch.setitem(METHODS, "ramp", needy)
    said = evaluated("--model", "constant", "ramp", code=2)
    assert "The package no_such_package is missing; install it: pip install no-such-package" in said
    assert not (tmp_path / "out").exists()
    evaluated("--model", "ramp", "--limit", "1", output="done")
