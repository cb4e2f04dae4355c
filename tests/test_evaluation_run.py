from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core.data import DepthSample
from depthfm_core.data.entries import Entry
from depthfm_core.depth.align import ALIGNMENTS
from depthfm_core.depth.inliers import Ransac
from depthfm_core.evaluation.baselines import GIVES
from depthfm_core.evaluation.baselines.method import Method
from depthfm_core.evaluation.metrics import METRICS
from depthfm_core.evaluation.pictures import picture_path
from depthfm_core.evaluation.protocol import BENCHMARKS
from depthfm_core.evaluation.run import UNCERTAINTY, columns, evaluate, worst_names
from depthfm_core.evaluation.spaces import SPACES, to_space
from depthfm_core.evaluation.summary import summarize
from depthfm_core.evaluation.table import SKIPPED, read_rows
from depthfm_core.evaluation.uncertainty import log_error, measure_uncertainty
from depthfm_core.share import Share

SIZE = (24, 32)
# What a perfect method would say of depth d, from its own unknown scale, shift or power.
PERFECT = {
    "depth": lambda d: 0.3 * d - 0.1,
    "relative_depth": lambda d: 0.3 * d,
    "log_depth": lambda d: 0.7 * d.log() + 2,
    "disparity": lambda d: 0.2 / d + 0.05,
    "depth_m": lambda d: d,
}
# The alignments that undo it; log depth with an unknown power is no depth up to scale and shift.
UNDONE = {
    "depth": ["affine"],
    "relative_depth": ["affine", "log", "disparity", "scale"],
    "log_depth": ["log"],
    "disparity": ["disparity"],
    "depth_m": ["affine", "log", "disparity", "scale"],
}


def depth_of(name):
    generator = torch.Generator().manual_seed(len(name))
    return 1 + 4 * torch.rand(1, *SIZE, generator=generator)


def read(entry):
    depth_m = depth_of(entry.name)
    valid = torch.zeros_like(depth_m, dtype=torch.bool) if entry.name == "blank" else depth_m > 1.2
    return DepthSample(torch.full((3, *SIZE), len(entry.name) / 100), depth_m, valid)


BENCHMARK = replace(BENCHMARKS["folder"], read=read)
ENTRIES = [Entry(name, None, None) for name in ("a", "bb", "blank", "four")]


def perfect(gives, seen=None):
    """A method that knows the depth by the gray of the picture, which tells the length of the name."""

    def estimate(image):
        name = {1: "a", 2: "bb", 4: "four", 5: "blank"}[round(100 * image.mean().item())]
        if seen is not None:
            seen.append(name)
        return PERFECT[gives](depth_of(name)[None]), 3

    return Method("perfect", gives, estimate)


def rough(image):
    """Log depth with an error that is large on the right."""
    error = torch.linspace(0, 1, SIZE[1]).expand(1, 1, *SIZE)
    return depth_of("x" * round(100 * image.mean().item()))[None].log() + error, 1


def test_the_methods_table_says_what_each_kind_can_be_aligned_by():
    assert set(SPACES) == set(GIVES)
    assert all(set(kinds) <= set(ALIGNMENTS) for kinds in SPACES.values())


@pytest.mark.parametrize("gives", PERFECT)
def test_a_perfect_method_scores_0_and_1_under_every_alignment_that_undoes_it(tmp_path, gives):
    list(evaluate(perfect(gives), BENCHMARK, ENTRIES[:2], UNDONE[gives], tmp_path))
    for row in read_rows(tmp_path).values():
        for alignment in UNDONE[gives]:
            for name in METRICS:
                expected = 1 if name.startswith("delta") else 0
                assert float(row[f"{alignment}.{name}"]) == pytest.approx(expected, abs=2e-5), name


def test_an_image_without_ground_truth_is_counted_and_not_measured(tmp_path):
    list(evaluate(perfect("depth"), BENCHMARK, ENTRIES, ["affine"], tmp_path))
    rows = read_rows(tmp_path)
    assert [rows[entry.name]["status"] == SKIPPED for entry in ENTRIES] == [False, False, True, False]
    assert rows["blank"]["affine.abs_rel"] == ""
    assert all("nan" not in value for row in rows.values() for value in row.values())


def test_a_run_goes_on_where_it_was_stopped(tmp_path):
    first, second = [], []
    run = evaluate(perfect("depth", first), BENCHMARK, ENTRIES, ["affine"], tmp_path)
    assert next(run) == "a"
    run.close()
    assert list(evaluate(perfect("depth", second), BENCHMARK, ENTRIES, ["affine"], tmp_path)) == [
        entry.name for entry in ENTRIES
    ]
    assert (first, second) == (["a"], ["bb", "four"])


def test_the_shares_of_all_processes_are_all_images(tmp_path):
    for index in range(3):
        list(evaluate(perfect("depth"), BENCHMARK, ENTRIES, ["affine"], tmp_path, share=Share(index, 3)))
    assert len(list(tmp_path.glob("images.*.csv"))) == 3
    assert set(read_rows(tmp_path)) == {entry.name for entry in ENTRIES}


def test_the_shared_table_equals_that_of_one_process(tmp_path):
    for index in range(2):
        list(evaluate(perfect("depth"), BENCHMARK, ENTRIES, ["affine"], tmp_path / "two", share=Share(index, 2)))
    list(evaluate(perfect("depth"), BENCHMARK, ENTRIES, ["affine"], tmp_path / "one"))
    cost = ("seconds", "peak_memory_mb")
    two, one = (
        {name: {k: v for k, v in row.items() if k not in cost} for name, row in read_rows(tmp_path / kind).items()}
        for kind in ("two", "one")
    )
    assert two == one


def test_calls_and_seconds_are_in_the_table(tmp_path):
    list(evaluate(perfect("depth"), BENCHMARK, ENTRIES[:1], ["affine"], tmp_path))
    row = read_rows(tmp_path)["a"]
    assert row["num_calls"] == "3" and 0 < float(row["seconds"]) < 60
    assert list(row) == columns(["affine"])


def test_aligned_depth_is_cut_to_the_benchmarks_range(tmp_path):
    cut = replace(BENCHMARK, min_depth_m=2.0, max_depth_m=3.0)
    list(evaluate(perfect("depth_m"), cut, ENTRIES[:1], ["scale"], tmp_path))
    depth_m = depth_of("a")[depth_of("a") > 1.2].double()
    expected = ((depth_m.clamp(2, 3) - depth_m).abs() / depth_m).mean().item()
    assert float(read_rows(tmp_path)["a"]["scale.abs_rel"]) == pytest.approx(expected, rel=1e-6)


def test_the_method_sees_the_long_side_that_the_protocol_asks_for(tmp_path):
    sizes = []

    def estimate(image):
        sizes.append(tuple(image.shape[-2:]))
        return image[:, :1], 0

    asked = replace(BENCHMARK, long_side_px=64)
    list(evaluate(Method("m", "depth", estimate), asked, ENTRIES[:1], ["affine"], tmp_path))
    assert sizes == [(48, 64)]


def test_a_benchmarks_fit_sees_the_columns_that_its_protocol_keeps(tmp_path):
    def estimate(image):
        depth_m = depth_of("a")[None].clone()
        depth_m[..., 1::2] += 40  # wrong on every second column, which a fit to 16 of 32 leaves out
        return depth_m, 1

    scores = {}
    for side in (None, SIZE[1] // 2):
        thinned = replace(BENCHMARK, alignment_max_side=side)
        list(evaluate(Method("m", "depth", estimate), thinned, ENTRIES[:1], ["affine"], tmp_path / str(side)))
        scores[side] = float(read_rows(tmp_path / str(side))["a"]["affine.delta1"])
    even = depth_of("a") > 1.2
    share = even[..., ::2].sum() / even.sum()
    assert scores[SIZE[1] // 2] == pytest.approx(share.item(), abs=1e-6) and scores[None] < share


def test_an_alignment_that_the_method_cannot_have_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(ValueError, match="perfect gives disparity, which cannot be aligned by 'log'; choose disparity"):
        list(evaluate(perfect("disparity"), BENCHMARK, ENTRIES, ["log"], tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_uncertainty_of_an_ensemble_is_scored_and_of_others_left_empty(tmp_path):
    uncertainty = torch.linspace(0, 1, SIZE[1]).expand(1, 1, *SIZE)
    method = Method("rough", "log_depth", lambda image: (*rough(image), uncertainty))
    list(evaluate(method, BENCHMARK, ENTRIES[:1], ["log"], tmp_path / "with"))
    list(evaluate(perfect("log_depth"), BENCHMARK, ENTRIES[:1], ["log"], tmp_path / "without"))
    sample = BENCHMARK.read(ENTRIES[0])
    log_depth = rough(sample.image[None])[0]
    error, sigma = log_error(log_depth, uncertainty, sample.depth_m[None], sample.valid[None])
    expected = measure_uncertainty(error, sigma, sample.valid[None])
    for name in UNCERTAINTY:
        found = float(read_rows(tmp_path / "with")["a"][name])
        assert found == pytest.approx(getattr(expected, name).item(), abs=1e-4)
    assert read_rows(tmp_path / "without")["a"]["spearman"] == ""


def test_pictures_are_kept_of_the_largest_errors_alone(tmp_path):
    list(evaluate(Method("rough", "log_depth", rough), BENCHMARK, ENTRIES, ["log"], tmp_path, num_pictures=2))
    rows = read_rows(tmp_path)
    names = worst_names(list(rows.values()), "log", 2)
    errors = {name: float(row["log.abs_rel"]) for name, row in rows.items() if row["log.abs_rel"]}
    assert names == sorted(errors, key=errors.get, reverse=True)[:2] and len(errors) > 2
    for name in names:
        picture = np.asarray(Image.open(picture_path(tmp_path / "worst", name)))
        assert picture.shape == (240, 4 * 320, 3)


def test_two_names_never_share_a_picture_and_every_name_is_a_file_name(tmp_path):
    names = ["a/b", "a_b", "a b", "../x", "x" * 300]
    paths = {picture_path(tmp_path, name) for name in names}
    assert len(paths) == len(names)
    assert all(path.parent == tmp_path and len(path.name) < 100 for path in paths)


def test_log_depth_becomes_depth_and_disparity_up_to_a_factor():
    log_depth = torch.tensor([[[[0.0, 1.0, 2.0]]]])
    for alignment, sign in (("affine", 1), ("scale", 1), ("disparity", -1)):
        found = to_space(log_depth, "log_depth", alignment)
        torch.testing.assert_close(found / found[..., :1], (sign * log_depth).exp())


def test_disparity_is_fitted_where_it_is_positive_and_measured_everywhere(tmp_path):
    def estimate(image):
        disparity = PERFECT["disparity"](depth_of("a")[None])
        disparity[..., :4] = -1  # wrong, and no disparity
        return disparity, 1

    list(evaluate(Method("m", "disparity", estimate), BENCHMARK, ENTRIES[:1], ["disparity"], tmp_path))
    depth_m = depth_of("a")
    wrong = (depth_m > 1.2)[..., :4].sum() / (depth_m > 1.2).sum()
    assert float(read_rows(tmp_path)["a"]["disparity.delta1"]) == pytest.approx(1 - wrong.item(), abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_map_upside_down_scores_as_well_and_its_scale_tells(tmp_path, sign):
    method = Method("m", "depth", lambda image: (sign * perfect("depth")(image), 1))
    list(evaluate(method, BENCHMARK, ENTRIES, ["affine"], tmp_path))
    rows = list(read_rows(tmp_path).values())
    assert float(rows[0]["affine.scale"]) == pytest.approx(sign / 0.3, rel=1e-5)  # `PERFECT` is 0.3 of the depth
    found = summarize("m", "depth", "none", rows, ["affine"])
    assert found.inverted == ({} if sign == 1 else {"affine": 3}) and "affine.scale" not in found.scores
    assert found.scores["affine.abs_rel"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("value", [0, -1])
def test_a_map_that_no_factor_fits_is_told_as_what_it_is(tmp_path, value):
    method = Method("m", "depth_m", lambda image: (torch.full_like(image[:, :1], value), 1))
    with pytest.raises(ValueError, match="a: The median of the map is not positive .* or --align scale"):
        list(evaluate(method, BENCHMARK, ENTRIES, ["affine", "scale"], tmp_path))


def test_ransac_leaves_out_what_least_squares_would_follow(tmp_path):
    def estimate(image):
        depth_m = depth_of("a")[None].clone()
        depth_m[..., :6] = 40  # wrong on a fifth of the picture
        return depth_m, 1

    scores = {}
    for ransac in (None, Ransac()):
        folder = tmp_path / str(ransac is None)
        list(evaluate(Method("m", "depth", estimate), BENCHMARK, ENTRIES[:1], ["affine"], folder, ransac=ransac))
        scores[ransac is None] = float(read_rows(folder)["a"]["affine.delta1"])
    assert scores[False] > 0.75 > scores[True]


def test_ransac_is_refused_for_a_ratio_of_medians_before_anything_is_measured(tmp_path):
    with pytest.raises(ValueError, match="ransac"):
        list(evaluate(perfect("depth_m"), BENCHMARK, ENTRIES, ["scale"], tmp_path / "run", ransac=Ransac()))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ValueError("no"), ValueError), (torch.OutOfMemoryError("no"), RuntimeError), (MemoryError("no"), MemoryError)],
)
def test_an_image_that_ends_a_run_is_named_and_those_before_it_stay(tmp_path, error, kind):
    def estimate(image):
        if round(100 * image.mean().item()) == 2:
            raise error
        return image[:, :1], 1

    with pytest.raises(kind, match="bb: no"):
        list(evaluate(Method("m", "depth", estimate), BENCHMARK, ENTRIES, ["affine"], tmp_path))
    assert set(read_rows(tmp_path)) == {"a"}


def test_a_table_of_other_columns_is_not_gone_on_with(tmp_path):
    list(evaluate(perfect("depth"), BENCHMARK, ENTRIES[:1], ["affine"], tmp_path))
    path = tmp_path / "images.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("affine.abs_rel", "affine.absrel"), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="images.csv has other columns .* choose another --output"):
        list(evaluate(perfect("depth"), BENCHMARK, ENTRIES, ["affine"], tmp_path))
    assert path.read_bytes() == before


def test_a_score_that_an_image_cannot_have_is_left_empty(tmp_path):
    def sparse(entry):
        """No two neighbors are measured, so that there is no boundary to look for."""
        checkered = (torch.arange(SIZE[0])[:, None] + torch.arange(SIZE[1])) % 2 == 0
        return replace(read(entry), valid=checkered[None])

    list(evaluate(perfect("depth_m"), replace(BENCHMARK, read=sparse), ENTRIES[:1], ["affine"], tmp_path))
    row = read_rows(tmp_path)["a"]
    assert row["affine.boundary_f1"] == "" and row["affine.abs_rel"] != ""
