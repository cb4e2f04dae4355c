"""What the options of `bench` become, and which GPU is measured; nothing is computed here."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from depthfm_core.__main__ import main
from depthfm_core.bench import ceiling
from depthfm_core.bench.graphs import GraphedNetwork
from depthfm_core.bench.measure import Case, Subject
from depthfm_core.bench.model import model_files
from depthfm_core.bench.run import BenchSettings, Results
from depthfm_core.bench.stages import StageClock
from depthfm_core.bench.ways import choose_ways


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Runs the command without measuring; gives the settings that it asks for."""

    def settings_of(*options):
        found = []
        monkeypatch.setattr(
            "depthfm_core.cli.bench.run_bench", lambda settings, _save: found.append(settings) or Results()
        )
        assert main(["bench", "--output", str(tmp_path), "--model", "nano", "--device", "cpu", *options]) == 0
        return found[0]

    return settings_of


def test_without_options_everything_is_measured_apart(asked):
    subject = Subject(model_files("nano", None, None), "cpu")
    assert asked() == BenchSettings(subject, choose_ways(None, "cpu"), [Case(512, 512, 2, 4)])
    assert subject.alone


def test_every_option_reaches_the_run(asked):
    effort = ("--threads", "3", "--warmups", "2", "--rounds", "7", "--ceiling-side", "64", "--no-cold")
    cases = ("--sizes", "own,64x96", "--steps", "1,3", "--members", "2")
    settings = asked("--ways", "latents,float32,latents", "--in-process", *effort, *cases)
    subject = Subject(model_files("nano", None, None), "cpu", threads=3, warmups=2, alone=False)
    expected = [Case(*size, steps, 2) for size in ((None, None), (64, 96)) for steps in (1, 3)]
    ways = ["float32", "latents"]  # in the order of the table, whose first is the yardstick
    assert settings == BenchSettings(subject, ways, expected, rounds=7, ceiling_side=64, cold=False)


def test_one_at_a_time_can_be_asked_for(asked):
    assert asked("--no-in-process").subject.alone


@pytest.mark.parametrize("clock", ["stages", "ceilings"])
def test_a_clock_waits_for_the_gpu_that_is_measured(clock, monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: waited.append(device))
    if clock == "stages":
        StageClock(torch.device("cuda:1")).now()
    else:
        ceiling._seconds(lambda: None, torch.device("cuda:1"))
    assert waited and set(waited) == {torch.device("cuda:1")}


def test_a_graph_is_recorded_on_the_gpu_of_its_inputs(monkeypatch):
    on, recorded = [], []

    @contextlib.contextmanager
    def current(device):
        on.append(device)
        yield
        on.pop()

    def capture(_graph, stream):
        recorded.append((stream.made_on, list(on)))
        return contextlib.nullcontext()

    monkeypatch.setattr(torch.cuda, "device", current)
    stream = SimpleNamespace(wait_stream=lambda _other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: SimpleNamespace(**vars(stream), made_on=list(on)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.cuda, "graph", capture)
    value = torch.ones(2, device="meta")
    GraphedNetwork(lambda x: x + 1)(value)
    assert recorded == [([value.device], [value.device])]
