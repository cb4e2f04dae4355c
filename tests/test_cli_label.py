"""`label`: photographs in, a data set of pictures with depth out, whatever the teacher and whatever interrupts it."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core.__main__ import main
from depthfm_core.cli import label
from depthfm_core.data import pairs
from depthfm_core.depth.files import read_image
from depthfm_core.evaluation.baselines import METHODS, Estimator, MethodOptions, load_method
from depthfm_core.evaluation.fingerprint import fingerprint
from depthfm_core.model.bundled import NANO_PATH
from depthfm_core.pipeline import EstimationSettings
from depthfm_core.training.teacher import to_depth

ROOT = Path(__file__).parents[1]
NAMES = ("a.jpg", "b.png", "sub/a.jpg", "sub/c.webp", "z.jpeg")
QUICK = ("--resolution", "32", "--steps", "1")


def save_photo(path, seed, size=(36, 52), **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, **how)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed, name in enumerate(NAMES):
        save_photo(folder / name, seed)
    (folder / "notes.txt").write_text("no photograph", encoding="utf-8")
    save_photo(folder / ".thumbnails/a.jpg", 0)
    return folder


@pytest.fixture
def labeled(photos, tmp_path, capsys):
    """Runs `label` on the photographs; gives the folder, labels.json (None without one) and what was said."""

    def run(*options, teacher="nano", folder=photos, output="labels", code=0):
        output = tmp_path / output
        quick = QUICK if teacher == "nano" else ()
        command = ["label", str(folder), "--teacher", teacher, "--output", str(output), *quick, *options]
        assert main(command) == code
        facts = output / "labels.json"
        return output, json.loads(facts.read_text(encoding="utf-8")) if facts.exists() else None, capsys.readouterr()

    return run


@pytest.fixture
def seen(monkeypatch):
    """The pictures that a teacher saw, which says 100 m + the picture's mean; `stop_at` interrupts that call."""

    class Seen(list):
        stop_at = None

    calls = Seen()

    def estimate(image):
        calls.append(image)
        if len(calls) == calls.stop_at:
            raise KeyboardInterrupt
        return 100 + image.mean(1), 1

    monkeypatch.setattr(label, "load_method", lambda _name, _options: Estimator("far", "depth_m", estimate))
    return calls


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def data(folder):
    """The files of the data set, without the two that describe it."""
    return {name: content for name, content in files(folder).items() if not name.endswith(".json")}


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


def test_what_is_labeled_is_not_labeled_again(seen, labeled, photos, tmp_path):
    folder, facts, _ = labeled()
    before = files(folder)
    assert len(seen) == 5
    assert labeled()[1] == facts
    assert len(seen) == 5 and files(folder) == before
    (folder / "b.png.png").unlink()
    (folder / "z.jpeg.npy").unlink()
    labeled()
    assert len(seen) == 7 and files(folder) == before


def test_an_interrupted_run_goes_on_and_ends_with_the_same_files(seen, labeled):
    whole = data(labeled(output="whole")[0])
    seen.clear()
    seen.stop_at = 3
    folder, facts, _ = labeled(code=130)
    assert len(pairs.list_entries(folder)) == 2 and facts is None
    seen.clear()
    seen.stop_at = None
    labeled()
    assert len(seen) == 3 and data(folder) == whole


def test_after_a_kill_what_is_there_is_whole_and_the_rest_is_made(labeled, tmp_path):
    folder = tmp_path / "many"
    for seed in range(60):
        save_photo(folder / f"{seed:02}.png", seed)
    output = tmp_path / "killed"
    command = [sys.executable, "-m", "depthfm_core", "label", str(folder), "--teacher", "nano", *QUICK]
    process = subprocess.Popen([*command, "--output", str(output)], cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while len(list(output.glob("*.png"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    found = pairs.list_entries(output)
    assert 3 <= len(found) < 60
    assert all(pairs.read(entry).valid.all() for entry in found)
    labeled(folder=folder, output="killed")
    labeled(folder=folder, output="whole")
    kept = {name: content for name, content in data(output).items() if not name.endswith(".tmp")}
    assert kept == data(tmp_path / "whole") and len(kept) == 120


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shards_are_a_partition_and_give_the_files_of_one_run(seen, labeled, tmp_path, count):
    whole = data(labeled(output="whole")[0])
    parts = [data(labeled("--shard", f"{i}/{count}", output=f"part{i}")[0]) for i in range(1, count + 1)]
    assert "a.jpg.png" in parts[0] and "b.png.png" in parts[1] and sum(map(len, parts)) == len(whole)
    merged = {name: content for part in parts for name, content in part.items()}
    assert merged == whole
    counts = [labeled("--shard", f"{i}/{count}", output="shared")[1]["labels"] for i in range(1, count + 1)]
    assert counts[-1] == 5 and counts == sorted(counts)
    assert data(tmp_path / "shared") == whole


def test_two_processes_give_the_files_of_one_run_past_a_bad_photograph(photos, labeled, tmp_path):
    folder = tmp_path / "photos"
    for seed in range(4):
        save_photo(folder / f"{seed}.png", seed)
    (folder / "0bad.png").write_bytes(b"no picture")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes below: another number of threads rounds differently
    try:
        whole = data(labeled(folder=folder, output="whole", code=2)[0])
    finally:
        torch.set_num_threads(threads)
    output = tmp_path / "two"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "depthfm_core", "label"]
    command = [*launch, str(folder), "--teacher", "nano", *QUICK, "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode != 0 and "0bad.png is not a picture" in done.stderr
    assert done.stdout.count("4 of 5 photographs") == 1
    assert data(output) == whole and len(whole) == 8


def test_a_bad_photograph_is_told_in_a_line_each_time_and_the_others_are_labeled(seen, labeled, tmp_path):
    folder = tmp_path / "photos"
    save_photo(folder / "a.jpg", 0)
    save_photo(folder / "c.jpg", 1)
    (folder / "b.jpg").write_bytes((folder / "a.jpg").read_bytes()[:200])
    (folder / "empty.png").write_bytes(b"")
    for _ in range(2):
        output, facts, said = labeled(folder=folder, code=2)
        assert said.err.count("\n") == 2 and "b.jpg" in said.err and "empty.png" in said.err
        assert set(data(output)) == {"a.jpg.png", "a.jpg.npy", "c.jpg.png", "c.jpg.npy"}
        assert (facts["photographs"], facts["labels"]) == (4, 2)
    assert len(seen) == 2


def test_a_photograph_that_the_teacher_cannot_take_is_told_with_its_name(labeled, monkeypatch):
    def estimate(image):
        return image[:, 0] * (torch.nan if round(255 * image[0, 0, 0, 0].item()) % 2 else 1), 1

    monkeypatch.setattr(label, "load_method", lambda _name, _options: Estimator("odd", "depth_m", estimate))
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
    assert "options was" in labeled("--seed", "3", code=2)[2].err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--range", "1"), "choose a number above 1"),
        (("--long-side", "-1"), "--long-side is -1"),
        (("--shard", "3/2"), "'3/2' is no part; choose 1/N"),
        (("--shard", "0/2"), "'0/2' is no part"),
        (("--shard", "half"), "'half' is no part"),
        (("--steps", "0"), "num_steps is 0"),
        (("--domain", "indoor"), "None of nano takes --domain"),
        (("--device", "nonsense"), "nonsense"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_leaves_nothing_behind(labeled, options, told):
    folder, _, said = labeled(*options, code=2)
    assert told in said.err and said.err.count("\n") == 1
    assert not folder.exists()


def test_folders_that_cannot_be_used_are_refused(labeled, photos, tmp_path):
    assert "is no folder" in labeled(folder=photos / "a.jpg", code=2)[2].err
    assert "is no folder" in labeled(folder=photos / "nowhere", code=2)[2].err
    (tmp_path / "empty").mkdir()
    assert "holds no pictures" in labeled(folder=tmp_path / "empty", code=2)[2].err
    for output in (photos, photos / "labels"):
        assert main(["label", str(photos), "--teacher", "ramp", "--output", str(output)]) == 2
    assert not (photos / "settings.json").exists() and not (photos / "labels").exists()


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
