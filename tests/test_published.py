"""Published numbers: complete, as fractions, in agreement with one another where they quote one another."""

import pytest

from depthfm_core.evaluation.published import DATASETS, TABLES, Score, find_published

ROWS = [(name, method) for name, table in TABLES.items() for method in table.rows]


@pytest.mark.parametrize(("name", "method"), ROWS)
def test_every_score_is_a_fraction_of_a_known_benchmark(name, method):
    scores = TABLES[name].rows[method]
    assert scores and set(scores) <= set(DATASETS)
    for score in scores.values():
        assert 0.02 < score.abs_rel < 0.4
        assert 0.6 < score.delta1 < 1


@pytest.mark.parametrize("name", TABLES)
def test_every_table_names_its_source_and_what_is_not_comparable(name):
    table = TABLES[name]
    assert table.title and table.source.startswith("https://")
    assert table.notes and all(note.endswith(".") for note in table.notes)


@pytest.mark.parametrize("method", ["MiDaS", "Omnidata", "DPT", "DepthFM-ID"])
def test_rows_that_one_table_took_from_the_other_are_equal(method):
    assert TABLES["depthfm"].rows[method] == TABLES["lotus-2"].rows[method]


def test_the_papers_table_reads_as_printed():
    row = TABLES["depthfm"].rows["DepthFM-ID"]
    assert row["nyu"] == Score(0.055, 0.963)
    assert row["kitti"] == Score(0.089, 0.913)
    assert row["eth3d"] == Score(0.058, 0.962)
    assert row["scannet"] == Score(0.063, 0.954)
    assert row["diode"] == Score(0.212, 0.800)


def test_a_number_that_no_source_gave_is_absent():
    assert "scannet" not in TABLES["depthfm"].rows["Depth Anything"]
    assert "HDN" not in TABLES["depthfm"].rows
    assert set(TABLES["depthfm-v1"].rows["DepthFM (first version)"]) == {"nyu", "kitti", "diode"}


def test_a_method_is_found_in_every_table_that_has_it():
    assert set(find_published("Metric3D v2")) == {"depthfm", "metric3d-v2"}
    assert find_published("Metric3D v2")["metric3d-v2"]["kitti"] == Score(0.043, 0.982)
    assert find_published("unheard of") == {}
