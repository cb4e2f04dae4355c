"""`label`: photographs in, a data set of pictures with depth out, whatever the teacher and whatever interrupts it."""

import argparse

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core.__main__ import main
from depthfm_core.cli import label
from depthfm_core.data import pairs
from depthfm_core.depth.files import read_image
from depthfm_core.evaluation.baselines import METHODS, Method, MethodOptions, load_method
from depthfm_core.model.catalog import NANO_PATH
from depthfm_core.model.fingerprint import fingerprint
from depthfm_core.settings import EstimationSettings
from depthfm_core.training.teacher import to_depth

from .labeling import NAMES, save_photo


def test_nanos_labels_are_read_as_pairs_and_are_the_rule_of_what_nano_says(photos, labeled):
    folder, facts, _ = labeled()
    entries = pairs.list_entries(folder)
    assert [entry.name for entry in entries] == sorted(NAMES)
    nano = load_method("nano", MethodOptions(settings=EstimationSettings(processing_resolution=32, num_steps=1)))
    for entry in entries:
        sample = pairs.read(entry)
        image = read_image(photos / entry.name)
        assert torch.equal(sample.image, image[0]) and sample.valid.all()
        assert torch.equal(sample.depth_m, to_depth(nano(image)[0], "log_depth"))


def test_labels_json_says_what_made_them(labeled):
    _, facts, said = labeled("--range", "20", "--long-side", "40")
    assert (facts["teacher"], facts["weights"]) == ("nano", fingerprint(str(NANO_PATH)))
    assert facts["weights"].startswith("sha256:")
    assert (facts["gives"], facts["dynamic_range"], facts["long_side_px"]) == ("log_depth", 20, 40)
    assert facts["rule"].startswith("R ^ (t - 1)") and facts["meaning"].startswith("log depth")
    assert facts["options"]["settings"]["processing_resolution"] == 32
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert (facts["photographs"], facts["labels"]) == (5, 5)
    assert "5 of 5 photographs" in said.out


@pytest.mark.parametrize(
    ("name", "gives"), [("depth-anything-v2", "disparity"), ("depth-anything-v2-indoor", "depth_m")]
)
def test_a_teacher_of_transformers_is_labeled_by_the_rule_of_what_it_gives(name, gives, photos, labeled, tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("torchvision")
    from .test_baselines_hugging_face import CASES, save

    save(CASES[name][0], tmp_path / "weights")
    teacher = f"{name}={tmp_path / 'weights'}"
    folder, facts, _ = labeled(teacher=teacher)
    assert facts["gives"] == gives and facts["weights"] == fingerprint(str(tmp_path / "weights"))
    assert facts["dynamic_range"] == (100 if gives == "disparity" else None)
    values = load_method(teacher)(read_image(photos / "b.png"))
    assert np.array_equal(np.load(folder / "b.png.npy"), to_depth(values, gives)[0, 0].numpy())


def test_metric3d_is_relative_until_it_is_told_a_focal_length(labeled, tmp_path):
    from .test_baselines_hub import METRIC3D

    (tmp_path / "hubconf.py").write_text(METRIC3D, encoding="utf-8")
    teacher = f"metric3d-v2-small={tmp_path}"
    relative, facts, _ = labeled(teacher=teacher)
    metric, told, _ = labeled("--focal-px", "30", teacher=teacher, output="metric")
    assert (facts["gives"], told["gives"], told["options"]) == ("relative_depth", "depth_m", {"focal_px": 30})
    first, second = (np.load(folder / "a.jpg.npy") for folder in (relative, metric))
    assert first.max() == 1 and np.allclose(first / first.mean(), second / second.mean(), rtol=1e-4)


def test_every_method_can_be_named_as_the_teacher(labeled):
    said = labeled(teacher="nothing", code=2)[2].err
    assert all(f"{name}" in said for name in METHODS)


def test_depth_beyond_65_meters_is_kept(seen, labeled):
    folder, _, _ = labeled()
    image = read_image(folder / "b.png.png")
    assert torch.allclose(torch.from_numpy(np.load(folder / "b.png.npy")), 100 + image[0].mean(0))


def test_a_photograph_that_the_teacher_cannot_take_is_told_with_its_name(labeled, monkeypatch):
    def estimate(image):
        return image[:, 0] * (torch.nan if round(255 * image[0, 0, 0, 0].item()) % 2 else 1), 1

    monkeypatch.setattr(label, "load_method", lambda _name, _options: Method("odd", "depth_m", estimate))
    _, facts, said = labeled(code=2)
    assert 0 < facts["labels"] < 5
    assert said.err.count("depthfm: ") == 5 - facts["labels"] == said.err.count("odd gave a map")
    assert all(line.split(": ")[1] in NAMES for line in said.err.splitlines())


def test_a_full_disk_ends_the_run(seen, labeled, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device", "a.jpg.npy")

    monkeypatch.setattr(label, "write_label", full)
    assert "No space left" in labeled(code=2)[2].err and len(seen) == 1


def test_a_photograph_is_upright_and_its_depth_with_it(seen, labeled, tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    save_photo(tmp_path / "photos" / "a.jpg", 0, exif=exif)
    folder, _, _ = labeled(folder=tmp_path / "photos")
    sample = pairs.read(pairs.list_entries(folder)[0])
    assert sample.image.shape[1:] == sample.depth_m.shape[1:] == (52, 36)
    assert torch.equal(sample.image[None], read_image(tmp_path / "photos" / "a.jpg"))


def test_the_long_side_bounds_picture_depth_and_what_the_teacher_sees(seen, labeled):
    folder, _, _ = labeled("--long-side", "26")
    assert {tuple(image.shape[2:]) for image in seen} == {(18, 26)}
    assert pairs.read(pairs.list_entries(folder)[0]).depth_m.shape == (1, 18, 26)


def test_the_range_changes_the_depth(labeled):
    ten, two = (np.load(labeled(*o, output=f"o{len(o)}")[0] / "a.jpg.npy") for o in ((), ("--range", "2")))
    assert ten.min() == pytest.approx(0.1) and two.min() == pytest.approx(0.5)


def test_other_settings_need_another_folder(labeled):
    labeled()
    assert "dynamic_range was 10 and is 5" in labeled("--range", "5", code=2)[2].err
    assert "options.settings.seed was 0 and is 3" in labeled("--seed", "3", code=2)[2].err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--range", "1"), "choose a number above 1"),
        (("--long-side", "-1"), "--long-side is -1"),
        (("--shard", "3/2"), "'3/2' is no part; choose 1/N"),
        (("--shard", "0/2"), "'0/2' is no part"),
        (("--shard", "half"), "'half' is no part"),
        (("--steps", "0"), "--steps is 0"),
        (("--domain", "indoor"), "None of nano takes --domain"),
        (("--device", "nonsense"), "nonsense"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_leaves_nothing_behind(labeled, options, told):
    folder, _, said = labeled(*options, code=2)
    assert told in said.err and said.err.count("\n") == 1
    assert not folder.exists()


def test_photographs_in_formats_that_are_not_read_are_told(labeled, tmp_path):
    save_photo(tmp_path / "photos" / "sub" / "a.jpg", 0)
    (tmp_path / "photos" / "sub" / "b.HEIC").write_bytes(b"")
    folder, _, said = labeled(folder=tmp_path / "photos")
    assert f"{tmp_path / 'photos'} has 1 photograph in formats that are not read (.heic)" in said.err
    assert len(pairs.list_entries(folder)) == 1


def test_folders_that_cannot_be_used_are_refused(labeled, photos, tmp_path):
    assert "is no folder" in labeled(folder=photos / "a.jpg", code=2)[2].err
    assert "is no folder" in labeled(folder=photos / "nowhere", code=2)[2].err
    (tmp_path / "empty").mkdir()
    assert "holds no pictures" in labeled(folder=tmp_path / "empty", code=2)[2].err
    for output in (photos, photos / "labels"):
        assert main(["label", str(photos), "--teacher", "ramp", "--output", str(output)]) == 2
    assert not (photos / "settings.json").exists() and not (photos / "labels").exists()


def test_the_folder_of_the_photographs_is_refused_by_another_spelling_too(tmp_path, caseless, capsys):
    for name in ("photos", "PHOTOS"):
        save_photo(tmp_path / name / "a.jpg", 0)
    output = tmp_path / "PHOTOS" / "new" / "labels"
    assert main(["label", str(tmp_path / "photos"), "--teacher", "ramp", "--output", str(output)]) == 2
    assert "lies in the folder of the photographs" in capsys.readouterr().err


def test_an_option_of_a_depthfm_is_refused_for_another_teacher(labeled):
    for option in (
        ("--steps", "4"),
        ("--vae", "x"),
        ("--attention", "rescaled"),
        ("--dtype", "bfloat16"),
        ("--decoder", "x"),
    ):
        said = labeled(*option, teacher="ramp", code=2)[2].err
        assert f"None of ramp takes {option[0]};" in said


def test_every_option_of_its_own_is_tested():
    parser = argparse.ArgumentParser(add_help=False)
    label.add_arguments(parser)
    own = {option for action in parser._actions[:6] for option in action.option_strings}
    assert own == {"--teacher", "--output", "--long-side", "--range", "--shard"}


def test_the_dtype_reaches_the_teacher_and_the_record(labeled):
    depth = {}
    for dtype in ("float32", "bfloat16"):
        folder, facts, _ = labeled("--dtype", dtype, output=dtype)
        assert facts["options"]["dtype"] == dtype
        depth[dtype] = np.load(folder / "b.png.npy")
    assert not np.array_equal(depth["float32"], depth["bfloat16"])
    assert np.allclose(depth["float32"], depth["bfloat16"], atol=0.2)
