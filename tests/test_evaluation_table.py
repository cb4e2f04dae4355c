from dataclasses import replace

import pytest

from depthfm_core.evaluation.baselines import METHODS
from depthfm_core.evaluation.report import Report, build_tables, markdown, write_report
from depthfm_core.evaluation.summary import summarize
from depthfm_core.evaluation.table import (
    MEASURED,
    SKIPPED,
    Facts,
    append_row,
    describe_changes,
    drop_without_results,
    open_folder,
    read_facts,
    read_rows,
    write_facts,
)

COLUMNS = ("name", "status", "log.abs_rel")


def row(name, value="0.5", status=MEASURED):
    return {"name": name, "status": status, "log.abs_rel": value}


def test_rows_come_back_as_they_were_written(tmp_path):
    names = (
        "a/b 1",
        'quoted "x", comma',
        "what Unicode calls \u2028\x85\f the end of a line",
    )
    for name in names:
        append_row(tmp_path / "images.csv", COLUMNS, row(name))
    assert read_rows(tmp_path) == {name: row(name) for name in names}


def test_rows_of_several_processes_are_one_table(tmp_path):
    for index in range(3):
        append_row(tmp_path / f"images.{index}.csv", COLUMNS, row(str(index)))
    assert set(read_rows(tmp_path)) == {"0", "1", "2"}


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_was_cut_off_is_measured_again_and_written_whole(tmp_path, cut):
    path = tmp_path / "images.csv"
    for name in ("first", "second"):
        append_row(path, COLUMNS, row(name))
    content = path.read_bytes()
    path.write_bytes(content[:cut])
    for name in {"first", "second"} - set(read_rows(tmp_path)):
        append_row(path, COLUMNS, row(name))
    assert read_rows(tmp_path) == {"first": row("first"), "second": row("second")}
    assert sorted(path.read_bytes().splitlines()) == sorted(content.splitlines())


def test_results_of_other_settings_are_refused_by_name(tmp_path):
    open_folder(tmp_path / "run", {"model": "nano", "steps": 2})
    open_folder(tmp_path / "run", {"model": "nano", "steps": 2})
    with pytest.raises(ValueError, match="steps was 2 and is 4.*another --output"):
        open_folder(tmp_path / "run", {"model": "nano", "steps": 4})


def test_means_leave_out_skipped_images_and_missing_scores():
    rows = [
        row("a", "0.1") | {"seconds": "9.0", "log.boundary_f1": "0.25"},
        row("b", "0.3") | {"seconds": "1.0", "log.boundary_f1": ""},
        row("c", "", SKIPPED),
        row("d", "0.2") | {"seconds": "3.0", "log.boundary_f1": None},
    ]
    summary = summarize("m", "depth", "none", rows, ["log"])
    assert (summary.num_images, summary.num_skipped) == (3, 1)
    assert summary.scores == {"log.abs_rel": pytest.approx(0.2), "log.boundary_f1": 0.25}
    assert summary.cost == {"seconds": 2.0}  # without the first, which pays for loading


def test_a_single_image_has_its_own_seconds():
    summary = summarize("m", "depth", "none", [row("a") | {"seconds": "9.0"}], ["log"])
    assert summary.cost == {"seconds": 9.0}


def test_a_report_without_notes_has_no_heading_for_them(tmp_path):
    for notes, headings in (([], 0), (["A note."], 1)):
        report = Report("A report", "nyu", "nyu", {}, [], notes, {})
        write_report(report, [], tmp_path)
        assert markdown(report).count("## Notes") == headings
        assert (tmp_path / "report.html").read_text(encoding="utf-8").count("<h2>Notes</h2>") == headings


def test_a_digest_is_cut_and_a_repositorys_name_is_not():
    digests = [(f"{of}{'a' * 64}", f"{of}{'a' * 12} ") for of in ("sha256:", "isl-org/MiDaS@sha256:")]
    commit = (f"someone/Wizard@{'b' * 40}", f"someone/Wizard@{'b' * 12} ")
    for weights, shown in (*digests, commit, ("prs-eth/marigold-depth-v1-0",) * 2):
        summary = summarize("m", "depth", weights, [row("a")], ["log"])
        *_, cost = build_tables("folder", [summary], ["log"])
        assert f"{cost.rows[0][-1]} ".startswith(shown)


def test_of_other_settings_only_what_differs_is_named(tmp_path):
    def settings(steps):
        return {"model": "nano", "options": {"settings": {"num_steps": steps, "seed": 0}}, "alignments": ("log",)}

    open_folder(tmp_path / "run", settings(2))
    with pytest.raises(ValueError, match=r"settings \(options\.settings\.num_steps was 2 and is 3\); choose another"):
        open_folder(tmp_path / "run", settings(3))
    assert not describe_changes(settings(2), settings(2))
    assert describe_changes({"options": {}}, {"options": {"seed": 0}}) == "options.seed was None and is 0"


def test_a_folder_without_a_result_is_dropped_and_one_with_a_result_is_not(tmp_path):
    for name in ("empty", "measured"):
        open_folder(tmp_path / name, {"model": "nano"})
        write_facts(tmp_path / name, Facts("log_depth", {"seed": 0}))
    append_row(tmp_path / "measured" / "images.csv", COLUMNS, row("a"))
    for name in ("empty", "measured", "never made"):
        drop_without_results(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["measured"]
    assert read_facts(tmp_path / "measured") == Facts("log_depth", {"seed": 0})


def test_results_of_another_precision_are_not_gone_on_with(tmp_path):
    kept = Facts("log_depth", {"dtype": "float32", "backend": "torch"})
    write_facts(tmp_path, kept)
    write_facts(tmp_path, kept)
    with pytest.raises(ValueError, match=r"\(dtype was 'float32' and is 'bfloat16'\); choose another"):
        write_facts(tmp_path, kept._replace(made_with={"dtype": "bfloat16", "backend": "torch"}))
    assert read_facts(tmp_path) == kept


def test_what_was_published_stands_in_the_measured_methods_line():
    names = ("marigold-v1-0", "nano")
    summaries = [
        summarize(name, "depth", "none", [row("a") | {"affine.abs_rel": "0.06"}], ["affine"]) for name in names
    ]
    summaries[0] = replace(summaries[0], published=METHODS["marigold-v1-0"].published)
    measured, *others = build_tables("nyu", summaries, ["affine"])
    lines = [dict(zip(measured.head, line, strict=True)) for line in measured.rows]
    assert lines[0]["AbsRel (affine)"] == "0.060"
    assert (lines[0]["published AbsRel"], lines[0]["published delta1"]) == ("0.055", "0.964")
    assert lines[0]["published in"] == "DepthFM, Table 2 (AAAI 2025)" and lines[1]["published AbsRel"] == "-"
    titles = [table.title.partition(":")[0] for table in others]
    assert titles.index("Cost (medians) and weights") < titles.index("Published, not measured here")
    assert "published AbsRel" not in build_tables("folder", summaries, ["affine"])[0].head
