"""Which weights were measured."""

from depthfm_core.evaluation.fingerprint import fingerprint


def test_a_folder_is_known_by_its_files_and_not_by_what_importing_leaves_in_it(tmp_path):
    (tmp_path / "hubconf.py").write_text("x = 1", encoding="utf-8")
    first = fingerprint(str(tmp_path))
    for folder in ("__pycache__", ".git"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("left", encoding="utf-8")
    assert fingerprint(str(tmp_path)) == first
    (tmp_path / "hubconf.py").write_text("x = 2", encoding="utf-8")
    assert fingerprint(str(tmp_path)) != first
