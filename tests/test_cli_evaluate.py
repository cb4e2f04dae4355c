import json
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core import EstimationSettings, load_pipeline
from depthfm_core.__main__ import main
from depthfm_core.depth.align import ALIGNMENTS
from depthfm_core.evaluation.baselines.method import Method
from depthfm_core.evaluation.table import read_rows
from depthfm_core.model.catalog import NANO_PATH
from depthfm_core.model.fingerprint import fingerprint

from .evaluating import SIZE, method
from .rgbd_files import write_npy, write_picture

ROOT = Path(__file__).parents[1]


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
    told, _, shown = markdown.partition("## Largest errors")
    assert told.strip() in printed and shown.strip() not in printed  # pictures would push the tables off a terminal
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
    report = json.loads((tmp_path / "results" / "report.json").read_text(encoding="utf-8"))
    assert report["data_set"] == pairs.name  # so that `table` tells two of them apart


def test_the_same_folder_and_list_may_be_spelled_otherwise(evaluated, pairs, tmp_path, monkeypatch):
    (tmp_path / "list.txt").write_text("a\nb\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for dataset, split in ((str(pairs), "list.txt"), (f"{pairs}/", str(tmp_path / "list.txt"))):
        command = ("--dataset", dataset, "--split", split, "--model", "ramp", "--output", str(tmp_path / "results"))
        assert main(["evaluate", *command]) == 0


def test_an_image_that_a_list_has_twice_is_refused_before_anything_is_measured(evaluated, tmp_path):
    (tmp_path / "list.txt").write_text("b\na\nb\n", encoding="utf-8")
    said = evaluated("--model", "ramp", "--split", str(tmp_path / "list.txt"), "--limit", "1", code=2)
    assert "b is listed 2 times; a split list has one line an image" in said and not (tmp_path / "out").exists()


def test_a_folder_that_is_the_data_set_takes_no_root(evaluated):
    assert "is a folder itself; leave --root elsewhere out" in evaluated("--root", "elsewhere", code=2)


@pytest.mark.parametrize("option", ["--baseline-steps", "--baseline-ensemble"])
def test_numbers_of_a_baseline_start_at_one(evaluated, option):
    assert f"{option} is 0; choose 1 or more" in evaluated("--model", "marigold-v1-0", option, "0", code=2)


def test_a_report_tells_what_the_loaded_weights_give(evaluated, monkeypatch):
    def metric(model, _options):
        return Method(model, "depth_m", lambda image: (image.mean(1) + 1, 1))

    monkeypatch.setattr("depthfm_core.cli.evaluate.load_method", metric)
    for _ in range(2):  # the second time nothing is loaded
        _, report, _ = evaluated("--model", "ramp", "--align", "scale")
        assert method(report, "ramp")["gives"] == "depth_m"


def test_a_report_says_how_many_images_were_fitted_upside_down(evaluated, monkeypatch):
    def upside_down(model, _options):
        rows = torch.linspace(-1, 1, SIZE[0])[:, None].expand(SIZE)
        return Method(model, "log_depth", lambda _image: (rows if model == "ramp" else -rows, 1))

    monkeypatch.setattr("depthfm_core.cli.evaluate.load_method", upside_down)
    _, report, _ = evaluated("--model", "ramp", "constant", "--align", "log")
    assert report["facts"]["fitted upside down (negative scale)"] == "ramp 3 of 3 images (log)"
    assert method(report, "ramp")["scores"]["log.abs_rel"] == pytest.approx(0, abs=1e-5)


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


def test_each_depthfm_stands_with_the_settings_of_its_own_run_the_models_own_ones_included(evaluated):
    of_both = ("--limit", "1", "--resolution", "32")
    evaluated("--model", "nano", "--steps", "1", "--solver", "heun", *of_both)
    folder, report, _ = evaluated("--model", str(NANO_PATH), *of_both)
    for name, steps, solver in (("nano", 1, "heun"), (str(NANO_PATH), 2, "euler")):
        made_with = method(report, name)["made_with"]
        assert (made_with["num_steps"], made_with["solver"], made_with["attention"]) == (steps, solver, "plain")
        assert made_with["noising_step"] == load_pipeline("nano").noising_step
        alone = {"noise_per_image", "members_at_once"}
        assert {field.name for field in fields(EstimationSettings)} - alone <= made_with.keys()
    head = (folder / "report.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert "steps" not in head and "DepthFM settings" not in report["facts"]


def test_the_report_says_by_which_options_each_method_was_run(evaluated, golden_dir):
    checkpoint, vae = golden_dir / "depthfm-micro-heads8.ckpt", golden_dir / "micro-vae-diffusers.safetensors"
    options = ("--vae", str(vae), "--dtype", "bfloat16", "--resolution", "32", "--limit", "1")
    folder, report, _ = evaluated("--model", str(checkpoint), "ramp", *options)
    made_with = method(report, str(checkpoint))["made_with"]
    digest = made_with["beside"]["vae"]
    assert (
        made_with.items()
        >= {
            **{"num_steps": 2, "solver": "euler", "ensemble_size": 1, "seed": 0},
            "sharpen_edges": False,
            "processing_resolution": 32,
            "vae": str(vae),
            "dtype": "bfloat16",
            "backend": "torch",
            "beside": {"vae": fingerprint(str(vae))},
        }.items()
    )
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


def test_pictures_of_any_format_are_measured_and_those_without_a_depth_map_told(tmp_path, capsys):
    for name in ("a.jpg", "b.jpg", "c.webp", "d.tif", "e.jpg"):
        write_picture(tmp_path / "own" / name, 8, 12)
        write_npy(tmp_path / "own" / f"{name[0]}.npy", np.linspace(1, 2, 96).reshape(8, 12))
    (tmp_path / "own" / "e.npy").unlink()
    Image.new("F", (12, 8), 1.0).save(tmp_path / "own" / "e_depth.tif")
    command = ["evaluate", "--dataset", str(tmp_path / "own"), "--model", "ramp", "--output", str(tmp_path / "out")]
    assert main([*command, "--limit", "3"]) == main(command) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["facts"]["data set"].endswith(", 4 images")
    told = "1 other picture without a depth map in a layout of docs/benchmarks.md"
    assert report["facts"]["not measured"] == told
    assert capsys.readouterr().err.count(f"depthfm: {tmp_path / 'own'} has {told}.\n") == 2


def test_the_steps_and_the_ensemble_reach_nano(evaluated):
    _, report, _ = evaluated("--model", "nano", "--steps", "1", "--ensemble", "3", "--limit", "1", "--resolution", "32")
    assert method(report, "nano")["cost"]["num_calls"] == 3
    assert {"spearman", "ause", "calibration_error"} <= set(method(report, "nano")["scores"])


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
        (("--steps", "0"), "--steps is 0"),
        (("--model", "ramp", "--align", "scale", "--ransac"), "ransac fits scale and shift"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_leaves_nothing_behind(evaluated, tmp_path, options, told):
    error = evaluated(*options, code=2)
    assert told in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("images*.csv"))
