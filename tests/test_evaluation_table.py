import pytest

from depthfm_core.evaluation.report import build_tables
from depthfm_core.evaluation.summary import summarize
from depthfm_core.evaluation.table import MEASURED, SKIPPED, append_row, open_folder, read_rows

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


def test_a_digest_is_cut_and_a_repositorys_name_is_not():
    for weights, shown in ((f"sha256:{'a' * 64}", f"sha256:{'a' * 12} "), ("prs-eth/marigold-depth-v1-0",) * 2):
        summary = summarize("m", "depth", weights, [row("a")], ["log"])
        *_, cost = build_tables("folder", [summary], ["log"])
        assert f"{cost.rows[0][-1]} ".startswith(shown)
