"""`evaluate` on the named benchmarks, each as docs/benchmarks.md calls it, on two images in the archive's layout."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest

from depthfm_core.__main__ import main
from depthfm_core.cli.arguments import ESTIMATION_OPTIONS, estimation_settings
from depthfm_core.cli.methods import (
    LOADING_OPTIONS,
    UNNUMBERED,
    add_method_arguments,
    changed_options,
    check_method_arguments,
    method_options,
)
from depthfm_core.data.entries import Entry
from depthfm_core.evaluation.baselines import METHODS
from depthfm_core.evaluation.baselines.method import Request
from depthfm_core.evaluation.protocol import BENCHMARKS
from depthfm_core.evaluation.published import TABLES
from depthfm_core.evaluation.table import read_rows
from depthfm_core.settings import EstimationSettings

from .rgbd_files import write_list, write_npy, write_picture, write_png16

SIZES = {"nyu": (480, 640), "kitti": (375, 1242), "eth3d": (8, 12), "scannet": (480, 640), "diode": (12, 16)}
KITTI = "2011_09_26/DRIVE/image_02/data/{0}.png DRIVE/proj_depth/groundtruth/image_02/{0}.png 721.5377"
ETH3D = "rgb/office/images/dslr_images/{0}.JPG depth/office_dslr_depth/office/ground_truth_depth/dslr_images/{0}.JPG"
LINES = {
    "nyu": "test/office_0005/rgb_{0}.png test/office_0005/depth_{0}.png test/office_0005/filled_{0}.png",
    "kitti": KITTI.replace("DRIVE", "2011_09_26_drive_0002_sync"),
    "eth3d": ETH3D,
    "scannet": "scene0406_02/color/{0}.jpg scene0406_02/depth/{0}.png",
    "diode": "indoors/scene_00021/{0}.png indoors/scene_00021/{0}_depth.npy indoors/scene_00021/{0}_depth_mask.npy",
}
UNITS_PER_M = {"nyu": 1000, "kitti": 256, "scannet": 1000}


def write_image(root, dataset, line):
    """A picture and its depth, which a ramp in log depth down the rows explains whole."""
    height, width = SIZES[dataset]
    depth_m = np.exp(np.linspace(2, 1, height))[:, None] + np.zeros((height, width))
    picture, depth, *others = line.split()
    write_picture(root / picture, height, width)
    if dataset == "eth3d":
        (root / depth).parent.mkdir(parents=True, exist_ok=True)
        (root / depth).write_bytes(depth_m.astype("<f4").tobytes())
    elif dataset == "diode":
        write_npy(root / depth, depth_m.astype(np.float32)[..., None])
        write_npy(root / others[0], np.ones((height, width)))
    else:
        write_png16(root / depth, depth_m * UNITS_PER_M[dataset])


@pytest.fixture
def benchmarked(tmp_path):
    """Runs `evaluate` with the ramp on two images, of which the list names the second alone; gives the folder."""

    def run(dataset, *options, output="out"):
        root = tmp_path / dataset
        lines = [LINES[dataset].format(name) for name in ("000001", "000002")]
        for line in lines:
            write_image(root, dataset, line)
        split = ("--split", str(write_list(tmp_path / "list.txt", lines[1])))
        where = ("--dataset", dataset, "--root", str(root), "--output", str(tmp_path / output))
        assert main(["evaluate", *where, *split, "--model", "ramp", "--align", "log", *options]) == 0  # the last counts
        return tmp_path / output

    return run


def scores_of(folder):
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    (method,) = report["methods"]
    return method


@pytest.mark.parametrize("dataset", SIZES)
def test_a_benchmarks_list_is_scored_beside_what_was_published(benchmarked, dataset):
    folder = benchmarked(dataset)
    (name,) = read_rows(folder / "ramp")
    method = scores_of(folder)
    assert "000002" in name and method["num_images"] == 1
    assert method["scores"]["log.abs_rel"] == pytest.approx(0, abs=5e-3)  # units of the depth map
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    for table in TABLES.values():
        assert (table.title in markdown) == any(dataset in row for row in table.rows.values())
    assert ("Every method is handed the picture with a long side of" in markdown) == (dataset in ("eth3d", "diode"))
    published = TABLES["lotus-2"].rows["DepthFM-ID"][dataset]
    told = [line.split() for line in markdown.splitlines() if line.startswith("| DepthFM-ID ")]
    assert ["|", "DepthFM-ID", "|", f"{published.abs_rel:.3f}", "|", f"{published.delta1:.3f}", "|"] in told


def test_kittis_mask_reaches_the_scores(benchmarked):
    rmse = {}
    for mask in ("eigen", "garg"):
        folder = benchmarked("kitti", "--kitti-mask", mask, output=mask)
        told = (folder / "report.md").read_text(encoding="utf-8")
        assert f"Mask within the crop: {mask}." in told
        assert ("not the published protocol: --kitti-mask garg" in told) == (mask == "garg")
        rmse[mask] = scores_of(folder)["scores"]["log.rmse"]
    assert rmse["eigen"] != rmse["garg"]


@pytest.mark.parametrize("options", [(), ("--diode-gradient-filter",), ("--ransac",), ("--align", "scale")], ids=str)
def test_published_scores_stand_beside_ours_only_where_the_protocol_was_theirs(benchmarked, monkeypatch, options):
    monkeypatch.setitem(BENCHMARKS, "diode", replace(BENCHMARKS["diode"], num_images=1))
    monkeypatch.setitem(METHODS, "ramp", replace(METHODS["ramp"], published="DepthFM-ID"))
    folder = benchmarked("diode", *options)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["departures"] == ([" ".join(options)] if options else [])
    assert ("published AbsRel" in (folder / "report.md").read_text(encoding="utf-8")) == (not options)
    assert report["facts"].get("not the published protocol", "").startswith(" ".join(options))


def test_the_report_says_of_each_alignment_how_it_was_fitted(benchmarked):
    for options, told in (
        (("--align", "scale"), "all measured pixels, by the ratio of the medians (scale)"),
        (("--align", "log", "scale"), "all measured pixels, by least squares (log) and by the ratio of the medians"),
    ):
        report = json.loads((benchmarked("diode", *options, output=options[1]) / "report.json").read_text("utf-8"))
        assert report["facts"]["fitted to"].startswith(told)


def test_diodes_gradient_filter_reaches_the_scores(benchmarked):
    plain, filtered = benchmarked("diode", output="plain"), benchmarked("diode", "--diode-gradient-filter")
    notes = [(folder / "report.md").read_text(encoding="utf-8") for folder in (plain, filtered)]
    assert "No gradient filter" in notes[0] and "Gradient filter and 0.6 to 350 m" in notes[1]
    assert scores_of(plain)["scores"]["log.rmse"] != scores_of(filtered)["scores"]["log.rmse"]


@pytest.mark.parametrize(
    ("model", "option", "value", "field"),
    [
        ("marigold-v1-0", "--baseline-steps", 3, "num_steps"),
        ("marigold-v1-0", "--baseline-ensemble", 4, "ensemble_size"),
        ("geowizard", "--domain", "indoor", "domain"),
        ("metric3d-v2", "--focal-px", 500.0, "focal_px"),
    ],
)
def test_an_option_of_a_baseline_reaches_it_and_no_other_method(model, option, value, field):
    parser = argparse.ArgumentParser()
    add_method_arguments(parser)
    args = parser.parse_args([option, str(value)])
    taken = check_method_arguments(["nano", model], args)
    assert getattr(method_options(args, taken[model]), field) == value
    assert getattr(method_options(args, taken["nano"]), field) is None
    with pytest.raises(ValueError, match=f"None of nano takes {option}"):
        check_method_arguments(["nano"], args)


def options_of(model, *given):
    parser = argparse.ArgumentParser()
    add_method_arguments(parser)
    args = parser.parse_args([str(part) for part in given])
    taken = check_method_arguments([model], args)
    return method_options(args, taken[model]), args


@pytest.mark.parametrize("model", ["marigold-v1-0", "geowizard", "lotus-g"])
def test_a_seed_that_is_given_reaches_every_method_that_takes_one(model):
    assert options_of(model, "--seed", 5)[0].seed == 5
    assert options_of(model)[0].seed is None  # the method keeps its own
    nano, _ = options_of("nano", "--seed", 5)
    assert nano.settings.seed == 5 and nano.seed is None
    with pytest.raises(ValueError, match="None of lotus-d takes --seed"):
        options_of("lotus-d", "--seed", 5)


SETTINGS = {
    "num_steps": 3,
    "solver": "heun",
    "grid": "rho",
    "rho": 3.5,
    "rtol": 0.5,
    "atol": 0.25,
    "max_steps": 77,
    "ensemble_size": 5,
    "reduction": "median",
    "average": "latents",
    "align_members": False,
    "seed": 7,
    "noising_step": 300,
    "processing_resolution": 96,
    "sharpen_edges": True,
    "members_at_once": 2,
}


def test_every_estimation_option_reaches_a_depthfm():
    given = []
    for name, (option, how) in ESTIMATION_OPTIONS.items():
        if name not in UNNUMBERED:
            assert SETTINGS[name] != getattr(EstimationSettings(), name)
            given += [option] if "action" in how else [option, SETTINGS[name]]
    options, args = options_of("nano", *given)
    assert options.settings == estimation_settings(args) == EstimationSettings(**SETTINGS)
    assert changed_options(options) == SETTINGS


@pytest.mark.parametrize(
    ("name", "value"),
    [("vae", "v"), ("dtype", "bfloat16"), ("attention", "rescaled"), ("backend", "torch"), ("decoder", "d")],
)
def test_every_loading_option_reaches_a_depthfm_and_the_report(name, value, golden_dir):
    options, _ = options_of(str(golden_dir / "depthfm-micro-heads8.ckpt"), f"--{name}", value)
    assert getattr(options, name) == value and changed_options(options) == {name: value}


def test_the_device_is_the_methods():
    assert options_of("ramp", "--device", "cuda:1")[0].device == "cuda:1"


def test_every_loading_option_has_a_test():
    (mark,) = test_every_loading_option_reaches_a_depthfm_and_the_report.pytestmark
    assert [name for name, _ in mark.args[1]] == list(LOADING_OPTIONS)


@pytest.fixture
def told(monkeypatch):
    """What a stub in the place of GeoWizard is told of each picture."""

    def load(model, options):
        def estimate(image, domain):
            seen.append(options.domain or domain)
            return image.mean(1), 1

        request = Request(model, METHODS["geowizard"], "", options)
        return request.method(estimate, processing_resolution="as it came")

    seen = []
    monkeypatch.setattr("depthfm_core.cli.evaluate.load_method", load)
    return seen


GEOWIZARD = ("--model", "geowizard", "--align", "affine")


@pytest.mark.parametrize(
    ("dataset", "domain"),
    [("nyu", "indoor"), ("kitti", "outdoor"), ("eth3d", "indoor"), ("scannet", "indoor"), ("diode", "indoor")],
)
def test_a_method_that_asks_is_told_the_data_sets_domain_and_the_report_names_it(benchmarked, told, dataset, domain):
    folder = benchmarked(dataset, *GEOWIZARD)
    assert told == [domain]  # and what a method says of itself goes before what it was asked for:
    made_with = {"domain": f"{domain} (1 images)", "processing_resolution": "as it came"}
    assert scores_of(folder)["made_with"] == made_with


def test_a_domain_that_is_chosen_overrides_the_data_sets(benchmarked, told):
    folder = benchmarked("kitti", *GEOWIZARD, "--domain", "object")
    assert told == ["object"] and scores_of(folder)["made_with"]["domain"] == "object"


@pytest.mark.parametrize(
    ("dataset", "name", "domain"),
    [
        ("diode", "outdoor/scene_00022/scan_00193/00022_00193_outdoor_000_010", "outdoor"),
        ("diode", "val/indoors/scene_00019/scan_00183/00019_00183_indoors_000_010", "indoor"),
        ("eth3d", "meadow/DSC_6535", "outdoor"),
        ("eth3d", "relief_2/DSC_6481", "indoor"),
    ],
)
def test_data_sets_of_both_domains_tell_them_apart_by_the_pictures_place(dataset, name, domain):
    assert BENCHMARKS[dataset].domain(Entry(name, None, None)) == domain


def test_a_part_of_a_benchmark_is_called_one(benchmarked):
    folder = benchmarked("kitti")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["facts"]["data set"] == "kitti (kitti), 1 of 652 images"
    assert "not comparable with the published rows" in report["facts"]["not the whole benchmark"]


def test_a_whole_benchmark_is_not_called_a_part(benchmarked, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "nyu", replace(BENCHMARKS["nyu"], num_images=1))
    report = json.loads((benchmarked("nyu") / "report.json").read_text(encoding="utf-8"))
    assert report["facts"]["data set"] == "nyu (nyu), 1 images"
    assert "not the whole benchmark" not in report["facts"]
