"""What a run of `evaluate` is bound to, and what a method is told of the data set."""

import argparse

import pytest

from depthfm_core.cli import evaluate
from depthfm_core.cli.evaluate_plan import make_plans, settings_of
from depthfm_core.evaluation.protocol import choose_benchmark


def planned(*options, dataset="kitti"):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    usual = ("--dataset", dataset, "--root", "data", "--model", "metric3d-v2")
    args = parser.parse_args([*usual, *options])  # the last counts
    benchmark = choose_benchmark(args.dataset, args.kitti_mask, args.diode_gradient_filter)
    (plan,) = make_plans(args, benchmark)
    return plan, settings_of(plan, args, benchmark, args.root)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("root", ("--root", "elsewhere")),
        ("split", ("--split", "list.txt")),
        ("protocol", ("--kitti-mask", "garg")),
        ("alignments", ("--align", "scale")),
        ("ransac", ("--ransac",)),
        ("options", ("--focal-px", "500")),
    ],
)
def test_a_run_goes_on_only_with_the_same(name, options):
    (_, usual), (_, other) = planned(), planned(*options)
    assert [key for key in {**usual, **other} if usual.get(key) != other.get(key)] == [name]


@pytest.mark.parametrize(("dataset", "size"), [("nyu", 0), ("folder", None)])
def test_a_benchmarks_pictures_are_not_resized_again(dataset, size):
    assert planned("--model", "geowizard", dataset=dataset)[0].options.processing_resolution == size


def test_an_alignment_that_is_chosen_twice_is_measured_once():
    assert planned("--align", "log", "scale", "log")[0].alignments == ("log", "scale")
