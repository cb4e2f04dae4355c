"""`evaluate` with several methods, one of which may fail, with weights that change, and in several processes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from depthfm_core import loading
from depthfm_core.__main__ import main
from depthfm_core.cli import evaluate
from depthfm_core.evaluation.baselines import METHODS
from depthfm_core.evaluation.baselines.method import Method
from depthfm_core.evaluation.table import read_rows
from depthfm_core.model.catalog import NANO_PATH
from depthfm_core.model.fingerprint import fingerprint
from depthfm_core.share import Share

from .evaluating import method

ROOT = Path(__file__).parents[1]


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


def test_a_resolution_that_the_model_refuses_is_told_before_anything_is_measured(evaluated, tmp_path):
    said = evaluated("--model", "nano", "--resolution", "31", code=2)
    assert "processing_resolution is 31 pixels" in said and "choose at least 32" in said
    assert not (tmp_path / "out" / "nano").exists()


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


def test_a_report_holds_what_earlier_runs_measured_into_the_same_output_be_the_weights_gone(
    evaluated, golden_dir, tmp_path
):
    checkpoint = shutil.copy(golden_dir / "depthfm-micro-heads8.ckpt", tmp_path / "mine.ckpt")
    of_it = ("--vae", str(golden_dir / "micro-vae-diffusers.safetensors"), "--resolution", "32", "--steps", "1")
    _, first, _ = evaluated("--model", str(checkpoint), *of_it, "--limit", "2")
    checkpoint.unlink()
    _, second, printed = evaluated("--model", "ramp", "--align", "log", "--limit", "2")
    assert [found["name"] for found in second["methods"]] == ["ramp", str(checkpoint)]
    assert method(second, str(checkpoint)) == method(first, str(checkpoint))
    assert second["facts"]["measured by earlier runs"].startswith(f"{checkpoint} (")
    assert "measured by earlier runs" not in first["facts"] and "AbsRel (affine)" in printed


@pytest.mark.parametrize(
    ("earlier", "later"),
    [(("--limit", "1"), ()), (("--ransac",), ()), (("--split", "both.txt"), ("--split", "one.txt"))],
)
def test_what_was_measured_otherwise_or_on_other_images_is_not_in_the_report(
    evaluated, tmp_path, monkeypatch, earlier, later
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "both.txt").write_text("a\nb\n", encoding="utf-8")
    (tmp_path / "one.txt").write_text("b\n", encoding="utf-8")
    evaluated("--model", "ramp", *earlier)
    _, report, _ = evaluated("--model", "constant", *later)
    assert [found["name"] for found in report["methods"]] == ["constant"]


def _drop_column(path, name):
    """Makes a table what a version wrote that had no such column."""
    lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    index = lines[0].index(name)
    kept = [",".join(cell for i, cell in enumerate(line) if i != index) for line in lines]
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def test_a_table_with_other_columns_is_not_gone_on_with_though_every_image_is_in_it(evaluated):
    folder, _, _ = evaluated("--model", "ramp", "--limit", "1")
    _drop_column(folder / "ramp" / "images.csv", "log.scale")
    said = evaluated("--model", "ramp", "--limit", "1", code=2)
    assert "images.csv has other columns than this version measures; choose another --output" in said


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda _: "{", "Expecting property name"),
        (lambda _: "[]", "its settings.json is damaged; remove the folder"),
        (lambda kept: json.dumps({name: kept[name] for name in kept if name != "model"}), "is damaged"),
        (lambda kept: json.dumps(kept | {"options": {"settings": {"num_steps": 0}}}), "num_steps is 0"),
        (None, "has other columns than this version measures"),
    ],
    ids=["no JSON", "a list", "no model", "no settings", "other columns"],
)
def test_a_neighbor_that_is_not_of_use_is_told_and_costs_no_report(evaluated, pairs, capsys, damage, reason):
    folder, _, _ = evaluated("--model", "ramp", "--limit", "1")
    settings = folder / "ramp" / "settings.json"
    if damage:
        settings.write_text(damage(json.loads(settings.read_text(encoding="utf-8"))), encoding="utf-8")
    else:
        _drop_column(folder / "ramp" / "images.csv", "log.scale")
    command = ["evaluate", "--dataset", str(pairs), "--output", str(folder), "--model", "constant", "--limit", "1"]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert f"depthfm: {folder / 'ramp'} is left out of the report: " in said and reason in said
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [found["name"] for found in report["methods"]] == ["constant"]


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

        return Method(model, "depth_m", estimate)

    seen, folder = [], None
    with monkeypatch.context() as patch:
        patch.setattr("depthfm_core.cli.evaluate.load_method", tired)
        assert "ramp was not measured: b: broke down" in evaluated("--model", "ramp", "constant", code=2)
    folder, report, _ = evaluated("--model", "constant")
    assert [found["name"] for found in report["methods"]] == ["constant"]
    assert set(read_rows(folder / "ramp")) == {"a"}


def test_a_library_that_is_broken_costs_its_own_method_alone(evaluated, monkeypatch):
    def load(model, options):
        if model == "ramp":
            raise ImportError("numpy.core.multiarray failed to import")
        return real(model, options)

    real = evaluate.load_method
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "load_method", load)
        said = evaluated("--model", "ramp", "constant", code=2)
    assert "ramp was not measured: numpy.core.multiarray failed to import" in said
    _, report, _ = evaluated("--model", "constant")
    assert [found["name"] for found in report["methods"]] == ["constant"]


def test_the_report_says_what_a_method_was_run_with_also_where_nothing_is_loaded_again(evaluated, monkeypatch):
    def load(model, _options):
        return Method(model, "depth", lambda image: (image.mean(1), 1), made_with={"num_steps": 50, "seed": 1234})

    monkeypatch.setattr("depthfm_core.cli.evaluate.load_method", load)
    for _ in range(2):
        folder, report, _ = evaluated("--model", "ramp", "--align", "affine")
        assert method(report, "ramp")["made_with"] == {"num_steps": 50, "seed": 1234}
        assert "num_steps 50, seed 1234" in (folder / "report.md").read_text(encoding="utf-8")


def test_a_run_that_goes_on_where_auto_takes_another_precision_is_refused(evaluated, monkeypatch):
    for dtype, code in (("float32", 0), ("bfloat16", 2)):
        monkeypatch.setattr(loading, "choose_dtype", lambda *_, own=dtype: getattr(torch, own))
        limit = ("--limit", "1") if code == 0 else ()
        said = evaluated("--model", "nano", "--resolution", "32", *limit, code=code)
    assert "holds results of other settings (dtype was 'float32' and is 'bfloat16')" in said


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
    assert "ramp needs the package no_such_package, which is not installed; pip install no-such-package" in said
    assert not (tmp_path / "out").exists()
    evaluated("--model", "ramp", "--limit", "1", output="done")
