"""What imports go without in processes of our own, on a module that stands for PyTorch's tracer."""

import sys
from argparse import Namespace
from contextlib import nullcontext
from importlib import import_module

import pytest

from depthfm_core import cli, quick_imports
from depthfm_core.__main__ import main
from depthfm_core.cli import methods
from depthfm_core.quick_imports import without_tracer

OURS = Namespace(own_process=True)


@pytest.fixture
def tracer(tmp_path, monkeypatch):
    """The name of a package that can be imported, and was not."""
    name = "tracer_of_a_test"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("config = 'its own'\n")
    (tmp_path / name / "inside.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(quick_imports, "_TRACER", name)
    yield name
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def test_in_the_block_marks_do_nothing_and_after_it_the_tracer_is_imported(tracer):
    with without_tracer():
        marks = import_module(tracer)
        assert marks.allow_in_graph(Namespace) is Namespace
        assert marks.disable(len) is len and marks.disable(recursive=False)(len) is len
        assert marks.disable(len, True, reason="none") is len
    assert import_module(tracer).config == "its own"


def test_asked_for_anything_else_it_gives_way_to_the_tracer(tracer):
    with without_tracer():
        marks = import_module(tracer)
        assert marks.config == "its own" and sys.modules[tracer] is not marks
    assert import_module(tracer) is not marks


def test_a_tracer_that_is_there_stays(tracer):
    there = import_module(tracer)
    with without_tracer():
        assert import_module(tracer) is there
    assert import_module(tracer) is there


@pytest.fixture
def networks(tracer, monkeypatch):
    """What was in the tracer's place at each import of the networks; `bears` is whether they bear the marks."""
    seen, bears = [], [True]

    def importing(name, package=None):
        if name != ".model.lean":
            return import_module(name, package)
        seen.append(type(sys.modules.get(tracer)).__name__)
        if not bears[0] and tracer in sys.modules:
            import_module(f"{tracer}.inside")

    monkeypatch.setattr(quick_imports, "import_module", importing)
    monkeypatch.setattr(quick_imports, "quick_imports", lambda _left_out: nullcontext())
    return seen, bears


def test_networks_are_imported_without_the_tracer_where_nothing_is_compiled(networks):
    cli.import_networks(OURS)
    assert networks[0] == ["_Marks", "NoneType"]


def test_networks_that_are_compiled_are_imported_with_it(networks):
    cli.import_networks(OURS, compiled=True)
    assert set(networks[0]) == {"NoneType"}


def test_in_a_process_of_others_imports_are_pythons_own(networks):
    cli.import_networks(Namespace(own_process=False))
    assert networks[0] == []


@pytest.mark.parametrize(
    ("models", "quick"),
    [
        (["nano"], True),
        (["nano", "constant", "depthfm=a.safetensors"], True),
        (["nano", "marigold-v1-1"], False),
        (["constant"], False),
        ([], False),
    ],
)
def test_methods_of_others_find_diffusers_whole_and_a_constant_imports_nothing(networks, models, quick):
    methods.import_methods(models, OURS)
    assert networks[0] == ["_Marks", "NoneType"] * quick


@pytest.mark.parametrize(
    ("command", "line", "quick"),
    [("train", "[flow.a]", True), ("train", "[flow.a.lora]", False), ("precompute", "[flow.a.lora]", True)],
)
def test_a_training_is_imported_the_quick_way_but_where_peft_adds_to_its_layers(
    tmp_path, monkeypatch, command, line, quick
):
    asked, recipe = [], tmp_path / "recipe.toml"
    recipe.write_text(line, encoding="utf-8")
    monkeypatch.setattr(f"depthfm_core.cli.{command}.import_networks", asked.append)
    assert main([command, str(recipe), "--output", str(tmp_path / "out")]) == 2  # for what the recipe lacks
    assert len(asked) == quick


@pytest.mark.parametrize(
    ("importing", "arguments"),
    [
        ("ablate.import_networks", []),
        ("evaluate.import_methods", ["--dataset", "{pairs}"]),
        ("label.import_methods", ["{pairs}", "--teacher", "nano"]),
    ],
)
def test_these_commands_are_imported_the_quick_way_too(pairs, tmp_path, monkeypatch, capsys, importing, arguments):
    def told(*_args):
        raise ValueError("the quick way")

    monkeypatch.setattr(f"depthfm_core.cli.{importing}", told)
    arguments = [word.format(pairs=pairs) for word in arguments]
    assert main([importing.partition(".")[0], *arguments, "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.endswith("depthfm: the quick way\n")


def test_where_the_marks_are_not_enough_networks_are_imported_the_plain_way(networks):
    seen, bears = networks
    bears[0] = False
    cli.import_networks(OURS)
    assert seen == ["_Marks", "NoneType"]
