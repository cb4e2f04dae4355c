"""`label` that is interrupted, killed, shared out or met with bad photographs ends with the files of one run."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from depthfm_core.data import pairs

from .labeling import QUICK, data, files, save_photo

ROOT = Path(__file__).parents[1]


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


def test_photographs_of_another_folder_need_another_output(labeled, tmp_path):
    labeled()
    save_photo(tmp_path / "other" / "a.jpg", 9)
    assert "root was" in labeled(folder=tmp_path / "other", code=2)[2].err


def test_labels_whose_edges_were_not_sharpened_are_not_gone_on_with(labeled):
    assert labeled("--no-sharpen-edges")[1]["sharpened"] is False
    assert "sharpened was False and is True" in labeled(code=2)[2].err


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
