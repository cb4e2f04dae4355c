"""The `bench` command on toy sizes; nothing here asserts a time."""

import contextlib
import io
import json
import os
import pickle
from dataclasses import replace
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from depthfm_core.__main__ import main
from depthfm_core.bench.fresh import answer
from depthfm_core.bench.graphs import GraphedNetwork
from depthfm_core.bench.machine import describe_machine, load_average
from depthfm_core.bench.measure import Case, LoadedWay, Subject
from depthfm_core.bench.model import ModelFiles, model_files
from depthfm_core.bench.naive import load_naive
from depthfm_core.bench.processes import FreshProcesses, MeasurementError, OneProcess, cold_start
from depthfm_core.bench.report import report, table
from depthfm_core.bench.run import BenchSettings, Results, difference, run_bench
from depthfm_core.bench.stages import STAGES
from depthfm_core.bench.ways import COMPUTED, WAYS, choose_ways
from depthfm_core.loading import load_pipeline

CASE = Case(64, 64, steps=1, members=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return model_files("tiny", None, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def smoke(files):
    """The command as a user runs it, in one process: what it wrote and printed."""
    folder, printed = files.model.parent, io.StringIO()
    options = ["--sizes", "64x96", "--members", "1,2", "--steps", "1", "--rounds", "2", "--ceiling-side", "64"]
    with contextlib.redirect_stdout(printed):
        code = main(["bench", "--output", str(folder), "--model", "tiny", "--in-process", "--no-cold", *options])
    return code, json.loads((folder / "bench.json").read_text(encoding="utf-8")), printed.getvalue(), folder


def test_the_command_writes_every_stage_of_every_way_and_round(smoke):
    code, content, _, _ = smoke
    ways = choose_ways(None, "cpu")
    assert code == 0 and ways[0] == "naive" and not any(content["failures"].values())
    assert list(content["rounds"]) == ["64x96, 1 step, 1 member", "64x96, 1 step, 2 members"]
    for case, measured in content["rounds"].items():
        assert list(measured) == list(content["summary"][case]) == ways
        for rounds in measured.values():
            assert len(rounds) == 2
            assert {"read", "load", "first", *STAGES, "whole"} == set(rounds[0]["seconds"])


def test_the_command_tells_the_machine_its_ceilings_and_each_ways_share(smoke):
    content = smoke[1]
    assert content["machine"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert len(content["ceilings"]["rounds"]) == 2
    told = content["summary"]["64x96, 1 step, 2 members"]["float32"]
    best = max(content["ceilings"]["median"]["float32"].values())
    for stage in COMPUTED:
        assert told["share_of_ceiling"][stage] == pytest.approx(told["tflops"][stage] / best)


@pytest.mark.parametrize(
    "name", ["GOMP_SPINCOUNT", "ONEDNN_MAX_CPU_ISA", "GLIBC_TUNABLES", "THP_MEM_ALLOC_ENABLE", "MALLOC_MMAP_MAX_"]
)
def test_what_is_told_of_the_machine_holds_the_variables_that_change_speed_and_no_others(monkeypatch, name):
    monkeypatch.setenv(name, "7")
    monkeypatch.setenv("SECRET_OMP", "8")
    told = describe_machine("cpu", 0)["environment"]
    assert told[name] == "7" and "SECRET_OMP" not in told


def test_a_system_without_a_load_average_has_none(monkeypatch):
    assert (load_average() is not None) == hasattr(os, "getloadavg")
    monkeypatch.delattr(os, "getloadavg", raising=False)
    assert load_average() is None


@pytest.mark.parametrize(("beside", "told"), [(0.0, False), (3.0, True)])
def test_the_table_says_where_other_processes_ran_beside(files, beside, told):
    cores = os.cpu_count()
    settings = BenchSettings(Subject(files, "cpu", threads=1), (), ())
    results = Results(loads=[(0.0, float(cores)), (cores + beside, 1.0)])
    line = f"load average up to {cores + 3.0:.1f} on {cores} cores"
    assert (line in table(report(settings, results))) == told
    assert "load average" not in table(
        report(replace(settings, subject=Subject(files, "cpu", threads=cores + 9)), results)
    )
    assert "load average" not in table(report(settings, Results(loads=[(None, None)])))


def test_the_command_prints_a_line_for_each_way_of_each_case(smoke):
    printed = smoke[2].splitlines()
    for way in choose_ways(None, "cpu"):
        assert sum(line.startswith(f"{way} ") for line in printed) == 2 * 2
    assert any(line.startswith("64x96, 1 step, 1 member:") for line in printed)


def test_the_command_draws_a_picture(smoke):
    with Image.open(smoke[3] / "bench.png") as picture:
        assert picture.width > 800 and len(picture.convert("RGB").getcolors(2**20)) > 20


def test_a_fresh_process_tells_its_memory_and_gives_the_same_answer(files):
    subject = Subject(files, "cpu", warmups=0)
    alone = FreshProcesses(subject).measure("float32", CASE)
    beside = OneProcess(Subject(files, "cpu", warmups=1, alone=False)).measure("float32", CASE)
    assert 0 < alone.start_bytes <= alone.start_bytes + alone.load_peak_bytes <= alone.peak_bytes
    assert beside.peak_bytes is None and beside.load_peak_bytes is None
    assert "first" in beside.seconds and "first" not in alone.seconds
    assert difference(alone.log_depth, beside.log_depth)["max"] < 1e-5


@pytest.fixture
def without_new_process(monkeypatch, capsys):
    """Lets the cold start's command run here."""

    def run(command, **_options):
        assert command[1:3] == ["-m", "depthfm_core"]
        return SimpleNamespace(returncode=main(command[3:]), stderr=capsys.readouterr().err)

    monkeypatch.setattr("depthfm_core.bench.processes.subprocess.run", run)


def test_the_cold_start_estimates_the_example_with_the_model(files, without_new_process):
    assert cold_start(Subject(files, "cpu")) > 0


def test_the_cold_start_says_why_it_failed(files, without_new_process):
    with pytest.raises(MeasurementError, match=r"predict ended with 2: depthfm: .* brings no autoencoder"):
        cold_start(Subject(ModelFiles(files.model), "cpu"))


def test_a_run_follows_its_settings(files, monkeypatch):
    asked = []
    monkeypatch.setattr("depthfm_core.bench.run.measure_ceilings", lambda *of: asked.append(of) or {})
    monkeypatch.setattr("depthfm_core.bench.run.cold_start", lambda _subject: 2.5)
    monkeypatch.setattr("depthfm_core.bench.run.load_average", iter((0.5, 1.5, 2.5, 3.5)).__next__)
    threads = torch.get_num_threads()
    subject = Subject(files, "cpu", threads=threads + 1, warmups=0, alone=False)
    try:
        results = run_bench(BenchSettings(subject, ("float32",), (CASE,), rounds=2, ceiling_side=48), lambda _so_far: 0)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert asked == [("cpu", 48)] * 2 and results.cold == [2.5, 2.5]
    assert results.loads == [(0.5, 1.5), (2.5, 3.5)]


def test_a_cold_start_that_fails_is_told_and_what_was_measured_stays(files, monkeypatch):
    def fail(_subject):
        raise MeasurementError("predict ended with 2")

    monkeypatch.setattr("depthfm_core.bench.run.measure_ceilings", lambda *_of: {})
    monkeypatch.setattr("depthfm_core.bench.run.cold_start", fail)
    settings = BenchSettings(Subject(files, "cpu", warmups=0, alone=False), ("float32",), (CASE,), rounds=2)
    kept = []
    results = run_bench(settings, lambda so_far: kept.append(len(so_far.measured[CASE.name]["float32"])))
    assert kept == [1, 2] and results.failed
    assert "cold start of predict, failed: predict ended with 2" in table(report(settings, results))


@pytest.mark.parametrize("error", [MemoryError("none left"), torch.OutOfMemoryError("none left")])
def test_a_way_without_memory_beside_others_is_told_how_to_load_one_at_a_time(files, monkeypatch, error):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setitem(WAYS, "bfloat16", replace(WAYS["bfloat16"], loader=fail))
    processes = OneProcess(Subject(files, "cpu", warmups=0, alone=False))
    with pytest.raises(MeasurementError) as alone:
        processes.measure("bfloat16", CASE)
    processes.measure("float32", CASE)
    with pytest.raises(MeasurementError, match="--no-in-process loads one at a time"):
        processes.measure("bfloat16", CASE)
    assert "--no-in-process" not in str(alone.value)


def test_a_fresh_process_gets_its_threads_and_tells_what_went_wrong():
    threads = torch.get_num_threads()
    ours, theirs = Pipe()
    try:
        answer(theirs, pickle.dumps((torch.get_num_threads, ())), threads + 1)
        answer(theirs, pickle.dumps((load_naive, ("nowhere", None))), 0)
    finally:
        torch.set_num_threads(threads)
    assert ours.recv() == (True, threads + 1)
    succeeded, told = ours.recv()
    assert not succeeded and told.startswith("CheckpointError: nowhere: cannot be read")


def test_a_way_that_fails_is_told_and_the_others_go_on(smoke, files, monkeypatch, capsys):
    def fail(*_args, **_kwargs):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setitem(WAYS, "bfloat16", replace(WAYS["bfloat16"], loader=fail))
    options = ["--sizes", "64x64", "--members", "1", "--rounds", "2", "--warmups", "0", "--ceiling-side", "16"]
    arguments = ["bench", "--output", str(smoke[3]), "--model", "tiny", "--in-process", "--no-cold", *options]
    assert main(arguments) == 2
    printed = capsys.readouterr().out
    assert "bfloat16, 64x64, 2 steps, 1 member, failed: RuntimeError: out of memory" in printed
    assert "\nfloat32 " in printed


def test_an_autoencoder_within_the_models_folder_is_one_of_its_files(tmp_path):
    for name in ("unet", "vae"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.safetensors").write_bytes(b"1")
    paths = ModelFiles(tmp_path, tmp_path / "vae").paths
    assert [path.name for path in paths].count("weights.safetensors") == 2 and len(set(paths)) == len(paths)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--ways", "fast"), "Unknown way 'fast'; choose from naive, "),
        (("--ways", "cuda-graphs"), "The way 'cuda-graphs' is for cuda, not for cpu; leave it out of --ways."),
        (("--sizes", "64"), "'64' is no size; give HEIGHTxWIDTH"),
        (("--sizes", "0x64"), "'0x64' is no size"),
        (("--members", "2,0"), "'0' is not a whole number of at least 1"),
        (("--rounds", "0"), "'0' is not a whole number of at least 1"),
        (("--warmups", "-1"), "'-1' is not a whole number of at least 0"),
        (("--model", "huge"), "There is no model 'huge'; give a file, a folder, or one of full, tiny, nano, "),
        (("--vae", "nowhere"), "There is no autoencoder nowhere;"),
    ],
)
def test_an_option_that_cannot_be_used_is_told_in_a_sentence_before_anything_is_written(option, told, tmp_path, capsys):
    assert main(["bench", "--output", str(tmp_path / "out"), "--device", "cpu", *option]) == 2
    assert told in capsys.readouterr().err
    assert not any(tmp_path.rglob("*.safetensors"))


def test_a_model_without_an_autoencoder_asks_for_one(files, tmp_path, capsys):
    assert main(["bench", "--output", str(tmp_path), "--device", "cpu", "--model", str(files.model)]) == 2
    assert "brings no autoencoder; name one (--vae FILE|FOLDER)" in capsys.readouterr().err


def test_a_way_whose_package_is_missing_is_left_out_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(WAYS, "float32", replace(WAYS["float32"], package="no_such_package"))
    assert "float32" not in choose_ways(None, "cpu")
    with pytest.raises(ValueError, match="needs the package no_such_package"):
        choose_ways(["float32"], "cpu")


@pytest.mark.parametrize("name", WAYS)
def test_no_way_sharpens_edges_since_the_naive_one_does_not(name):
    assert WAYS[name].estimation_settings(num_steps=1).sharpen_edges is False


def test_warmups_come_once_a_case(files):
    calls, way = [], LoadedWay("float32", Subject(files, "cpu", warmups=2, alone=False))
    real = way._pipeline.codec.encode
    way._pipeline.codec.encode = lambda image: calls.append(1) or real(image)
    for _ in range(2):
        way.measure(CASE)
    assert len(calls) == 2 + 1 + 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_replayed_network_gives_what_the_network_gives(files):
    network = load_pipeline(files.model, files.vae, "cuda", "float32").network
    replayed = GraphedNetwork(network)
    for batch in (1, 2, 1):
        x_t, image_latent = torch.randn(2, batch, 4, 8, 8, device="cuda")
        t = torch.rand(batch, device="cuda")
        with torch.inference_mode():
            assert torch.allclose(replayed(x_t, t, image_latent), network(x_t, t, image_latent), atol=1e-5)
