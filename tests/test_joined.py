"""`table`: reports on several data sets as one table, with the published rows below."""

import csv
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from depthfm_core.__main__ import _parser, main
from depthfm_core.evaluation.baselines import METHODS
from depthfm_core.evaluation.published import DATASETS, TABLES
from depthfm_core.evaluation.report import Report, write_report
from depthfm_core.evaluation.summary import Summary


def summary(name, scores, **changed):
    made = Summary(name, "log_depth", "sha256:0", 1, 0, scores, {}, {"seed": 0}, METHODS[name].published)
    return replace(made, **changed)


@pytest.fixture
def joined(tmp_path, capsys):
    """Writes reports, given as data set -> summaries, and joins them; gives the lines of table.csv and table.md."""

    def run(reports, departures=()):
        for name, summaries in reports.items():
            (tmp_path / name).mkdir()
            facts = {"data set": f"{name}, 1 images"}
            report = Report(name, name, name, facts, [], [], {}, departures if name == "kitti" else ())
            write_report(report, summaries, tmp_path / name)
        folders = [str(tmp_path / name) for name in reports]
        assert main(["table", *folders, "--output", str(tmp_path / "out")]) == 0
        told = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
        assert told.strip() == capsys.readouterr().out.strip()
        with (tmp_path / "out" / "table.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file)), told

    return run


NANO = {"log.abs_rel": 0.12345, "log.delta1": 0.5, "affine.abs_rel": 0.25, "affine.delta1": 0.75}
RAMP = {"log.abs_rel": 0.5, "log.delta1": 0.25}


def test_two_reports_are_one_table_of_methods_by_data_sets_and_scores(joined):
    rows, told = joined({"nyu": [summary("nano", NANO), summary("ramp", RAMP)], "kitti": [summary("nano", NANO)]})
    assert list(rows[0])[3:] == ["nyu.abs_rel", "nyu.delta1", "kitti.abs_rel", "kitti.delta1"]
    here = [row for row in rows if row["source"] == "measured here"]
    assert [(row["method"], row["alignment"]) for row in here] == [("nano", "log"), ("nano", "affine"), ("ramp", "log")]
    assert list(here[0].values())[3:] == ["0.12345", "0.5", "0.12345", "0.5"]
    assert list(here[2].values())[3:] == ["0.5", "0.25", "", ""]
    assert "| nano              |        log |      0.123 |        0.500 |".replace(" ", "") in told.replace(" ", "")


def test_the_papers_rows_stand_below_as_they_were_published(joined):
    rows, told = joined({"nyu": [summary("nano", NANO)], "kitti": [summary("nano", NANO)]})
    paper = {row["method"]: row for row in rows if row["source"] == TABLES["depthfm"].title}
    assert list(paper) == list(TABLES["depthfm"].rows)
    for name, row in TABLES["depthfm"].rows.items():
        assert float(paper[name]["kitti.delta1"]) == row["kitti"].delta1 and paper[name]["alignment"] == ""
    assert TABLES["depthfm"].source in told


def test_a_measured_method_that_only_another_table_has_stands_there_too(joined):
    rows, _ = joined({"nyu": [summary("depthfm-v1", NANO), summary("midas", RAMP)]})
    beyond = [row for row in rows if row["source"] not in ("measured here", TABLES["depthfm"].title)]
    assert [(row["method"], row["nyu.abs_rel"]) for row in beyond] == [("DepthFM (first version)", "0.065")]


def test_published_scores_are_left_out_where_the_protocol_was_another(joined):
    reports = {"nyu": [summary("nano", NANO)], "kitti": [summary("nano", NANO)]}
    rows, told = joined(reports, departures=("--kitti-mask garg",))
    assert "measured with --kitti-mask garg, so published numbers are left out" in told
    paper = [row for row in rows if row["source"] != "measured here"]
    assert paper and all(row["nyu.abs_rel"] and not row["kitti.abs_rel"] for row in paper)


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({}, ["nano"]),
        ({"made_with": {"seed": 1}}, ["nano (seed 0)", "nano (seed 1)"]),
        ({"made_with": {"seed": 0, "vae": "a"}}, ["nano", "nano (vae a)"]),
        ({"made_with": {"seed": 0, "members_at_once": 1}}, ["nano"]),
        ({"weights": f"sha256:{'1' * 64}"}, ["nano (weights sha256:0)", f"nano (weights sha256:{'1' * 12})"]),
    ],
)
def test_a_method_that_was_not_one_and_the_same_everywhere_has_a_row_each(joined, changed, names):
    rows, told = joined({"nyu": [summary("nano", NANO)], "kitti": [summary("nano", NANO, **changed)]})
    assert list(dict.fromkeys(row["method"] for row in rows if row["source"] == "measured here")) == names
    assert all(f"| {name} " in told for name in names)


def test_what_a_method_was_told_of_the_images_is_no_setting_of_it(joined):
    where = ({"seed": 0, "domain": f"{kind} (1 images)"} for kind in ("indoor", "outdoor"))
    rows, _ = joined({name: [summary("nano", NANO, made_with=next(where))] for name in ("nyu", "kitti")})
    assert {row["method"] for row in rows if row["source"] == "measured here"} == {"nano"}
    assert rows[0]["kitti.abs_rel"] == rows[0]["nyu.abs_rel"] != ""


def test_the_focal_length_of_a_data_sets_camera_makes_no_row_of_its_own(joined):
    focal_px = {"nyu": 518.9, "kitti": 721.5}
    rows, _ = joined({name: [summary("nano", NANO, made_with={"focal_px": px})] for name, px in focal_px.items()})
    assert {row["method"] for row in rows if row["source"] == "measured here"} == {"nano"}


def test_the_page_on_benchmarks_names_the_published_targets_and_its_commands_can_be_read():
    page = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name, score in TABLES["depthfm-v1"].rows["DepthFM (first version)"].items():
        assert f"{name.upper()} {100 * score.abs_rel:.1f} and {100 * score.delta1:.1f}" in page
    commands = [shlex.split(line)[3:] for line in page.splitlines() if line.startswith("python -m depthfm_core ")]
    for command in commands:
        _parser(command).parse_args(command)
    assert ["table", *(f"report_{name}" for name in DATASETS), "--output", "table"] in commands


def test_what_cannot_be_joined_is_refused(joined, tmp_path, capsys):
    joined({"nyu": [summary("nano", NANO)]})
    old = {"facts": {}, "notes": [], "methods": []}
    for name, content in (("old", json.dumps(old)), ("broken", json.dumps(old)[:-1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(content, encoding="utf-8")
    unnamed = json.loads((tmp_path / "nyu" / "report.json").read_text(encoding="utf-8"))
    del unnamed["images"]
    for name in ("early", "too"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(unnamed), encoding="utf-8")
    for folders, told in (
        (("early", "too"), "early does not say which images of nyu it is on"),
        (("nyu", "nyu"), "are both reports on nyu"),
        (("nyu", "nyu"), "each has nano with the same settings; leave one of them out, or delete nano in one and run"),
        (("nyu", "nowhere"), "name folders that `evaluate --output` has written"),
        (("old",), "was not written by this version's `evaluate`; run it again"),
        (("broken",), f"{tmp_path / 'broken' / 'report.json'} is broken (Expecting"),
    ):
        assert main(["table", *(str(tmp_path / name) for name in folders), "--output", str(tmp_path / "no")]) == 2
        said = capsys.readouterr().err
        assert told in said and said.count("\n") == 1
    assert not (tmp_path / "no").exists()


def test_a_method_may_be_fitted_by_one_alignment_in_one_report_and_by_another_in_the_next(evaluated, tmp_path, capsys):
    folders = [
        evaluated("--model", "ramp", "--limit", "1", "--align", name, output=name)[0] for name in ("log", "affine")
    ]
    assert main(["table", *map(str, folders), "--output", str(tmp_path / "out")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ramp")]
    cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in lines]
    assert cells == [["ramp", "log"], ["ramp", "affine"]]


def test_one_model_at_two_settings_and_one_baseline_have_a_row_each(evaluated, tmp_path, capsys):
    for steps, others in (("1", ("ramp",)), ("4", ())):
        options = ("--steps", steps, "--limit", "1", "--resolution", "32", "--align", "log")
        evaluated("--model", "nano", *others, *options, output=f"r{steps}")
    folders = [str(tmp_path / name) for name in ("r1", "r4")]
    assert main(["table", *folders, "--output", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "measured here"]
    assert [row["method"] for row in rows] == ["nano (num_steps 1)", "ramp", "nano (num_steps 4)"]
    (name,) = {column.partition(".")[0] for column in rows[0] if column.endswith(".abs_rel")}
    for row, folder, place in zip(rows, ("r1", "r1", "r4"), (0, 1, 0), strict=True):
        report = json.loads((tmp_path / folder / "report.json").read_text(encoding="utf-8"))
        assert float(row[f"{name}.abs_rel"]) == report["methods"][place]["scores"]["log.abs_rel"]


@pytest.mark.parametrize("options", [("--limit", "2"), ("--ransac", "--limit", "1")])
def test_reports_on_other_images_of_one_name_or_fitted_otherwise_are_not_joined(evaluated, tmp_path, capsys, options):
    evaluated("--model", "constant", "--limit", "1", "--align", "log", output="one")
    evaluated("--model", "ramp", "--align", "log", *options, output="other")
    folders = [str(tmp_path / name) for name in ("one", "other")]
    assert main(["table", *folders, "--output", str(tmp_path / "out")]) == 2
    assert "but on other images or by another protocol (" in capsys.readouterr().err
