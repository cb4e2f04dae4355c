"""What a training leaves on disk when it is killed, when the disk is full, and when its loss is no number."""

import dataclasses
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from depthfm_core.__main__ import main
from depthfm_core.model.reading import CheckpointError
from depthfm_core.model.writing import save_tensors
from depthfm_core.training import velocity
from depthfm_core.training.loop import LoopSettings
from depthfm_core.training.state import CHANGEABLE, is_made, read_state, write_state

from .test_replacing import leave_half_written
from .test_training_recipe import TOY, write_toy, write_toy_frames

TRAINING_PAGE = Path(__file__).parents[1] / "docs" / "training.md"
SETTINGS = {"num_steps": 4, "learning_rate": 0.1}
# Forks a child that saves ever new states, each of one number alone, kills it a random moment after it began to write,
# and looks at what is left: thirty times. Prints how many kills left a half-written file behind and the last step.
KILLING = """
import os, random, signal, sys, time, torch
from pathlib import Path
from depthfm_core.training.objective import Objective
from depthfm_core.training.state import read_state, write_state

torch.set_num_threads(1)  # a forked process has no other threads and would wait for them for ever
path, step, partial = Path(sys.argv[1]), 0, 0

def save(step):
    weights = torch.full((2_000_000,), float(step))
    write_state(path, {"settings": {}, "precision": "no", "step": step, "weights": weights})

save(step)  # the first one takes longer
start = time.perf_counter()
save(step)
once = time.perf_counter() - start
for attempt in range(30):
    child = os.fork()
    if not child:
        while True:
            step += 1
            save(step)
    while not list(path.parent.glob(".*.tmp")):
        pass
    time.sleep(random.Random(attempt).uniform(0, 2 * once))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    partial += len(list(path.parent.glob(".*.tmp")))
    state = read_state(path, {})
    assert state["step"] >= step and state["weights"].eq(state["step"]).all(), state
    step = state["step"]
print(partial, step)
"""
# Writes tensors and then trains, with at most 1 MB a file (pictures of checks are smaller), as on a disk that is full.
FULL = """
import resource, sys, torch
from pathlib import Path
from depthfm_core.__main__ import main
from depthfm_core.model.writing import save_tensors

resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    save_tensors({"a": torch.zeros(1_000_000)}, Path(sys.argv[1]))
except OSError as error:
    print(error)
print(main(sys.argv[2:]))
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX: SIGKILL and limits of a process")


def run_python(code, *arguments):
    """What a process printed and complained."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return done.stdout, done.stderr


@posix
def test_a_kill_while_saving_leaves_one_whole_state(tmp_path):
    printed, complaints = run_python(KILLING, tmp_path / "state.pt")
    assert complaints == ""
    partial, step = map(int, printed.split())
    assert partial > 5, "too few kills fell into the writing to say anything"
    assert step > 0 and [path.name for path in tmp_path.iterdir()] == ["state.pt"]


@pytest.fixture
def flow_stage(tmp_path):
    """The command line of a toy recipe's first flow stage, whose inputs are made, and the stage's folder."""
    output = tmp_path / "out"
    write_toy_frames(output)
    text = TOY.replace("num_steps = 2", "num_steps = 5\nsave_every = 2")
    command = ["train", str(write_toy(tmp_path, text)), "--output", str(output), "--stage"]
    assert [main([*command, stage]) for stage in ("autoencoder", "latents.small")] == [0, 0]
    return [*command, "flow.first"], output / "flow" / "first"


@posix
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(flow_stage, tmp_path):
    command, folder = flow_stage
    tensors = tmp_path / "network.safetensors"
    tensors.write_bytes(b"old")
    printed, complaints = run_python(FULL, tensors, *command)
    refused, code = printed.splitlines()
    assert f"{tensors} cannot be written" in refused and "File too large" in refused and tensors.read_bytes() == b"old"
    assert code == "2"
    last = complaints.splitlines()[-1]
    assert last.startswith("depthfm: The state of step 2 cannot be saved as") and "File too large" in last
    assert "No state was saved before it. Free some space" in last
    assert not (folder / "state.pt").exists() and not list(folder.glob(".*"))


def test_a_state_comes_back_as_it_was(tmp_path, monkeypatch):
    waited, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: waited.append(fsync(file)))
    state = {"settings": SETTINGS, "precision": "no", "step": 3, "weights": [torch.arange(5.0)]}
    write_state(tmp_path / "new" / "state.pt", state)
    assert len(waited) >= 1  # a power failure leaves it
    back = read_state(tmp_path / "new" / "state.pt", SETTINGS)
    assert torch.equal(back.pop("weights")[0], state.pop("weights")[0]) and back == state
    assert read_state(tmp_path / "none.pt", SETTINGS) is None


def test_a_state_that_another_program_holds_is_no_full_disk(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "in use")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="step 3 cannot be saved.*no other program hold the file, then run the same"):
        write_state(tmp_path / "state.pt", {"step": 3})


@pytest.mark.parametrize(("step", "done"), [(3, False), (4, True)])
def test_a_stage_is_made_when_its_result_is_there_and_its_last_step_is_done(tmp_path, step, done):
    result = tmp_path / "network.safetensors"
    write_state(tmp_path / "state.pt", {"settings": SETTINGS, "precision": "no", "step": step})
    assert not is_made(result, SETTINGS)
    result.touch()
    assert is_made(result, SETTINGS) == done


def broken_states(folder):
    """A file cut short, an empty one, one of text, a model, and a list."""
    write_state(folder / "whole.pt", {"settings": SETTINGS, "precision": "no", "step": 3, "weights": torch.zeros(1000)})
    whole = (folder / "whole.pt").read_bytes()
    for name, content in (("short", whole[: len(whole) // 2]), ("empty", b""), ("text", b"{}" * 100)):
        (folder / f"{name}.pt").write_bytes(content)
    (folder / "spoiled.pt").write_bytes(whole[:100] + bytes(200) + whole[300:])
    torch.save({"state_dict": {}}, folder / "model.pt")
    torch.save([1, 2], folder / "list.pt")
    torch.save(nn.Linear(1, 1), folder / "code.pt")
    save_tensors({"a": torch.zeros(3)}, folder / "tensors.pt")
    return ["short", "empty", "text", "spoiled", "model", "list", "code", "tensors"]


def test_a_file_that_is_no_state_is_named_with_what_to_do(tmp_path):
    for name in broken_states(tmp_path):
        with pytest.raises(CheckpointError, match=rf"{name}\.pt: is .*delete it to begin") as caught:
            read_state(tmp_path / f"{name}.pt", SETTINGS)
        assert "\n" not in str(caught.value)


def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(tmp_path):
    leave_half_written(tmp_path / "state.pt")
    kept = [leave_half_written(tmp_path / "other.pt"), tmp_path / "state.pt.tmp"]
    kept[1].write_bytes(b"half")
    read_state(tmp_path / "state.pt", SETTINGS)
    assert sorted(tmp_path.iterdir()) == kept


def test_a_run_may_go_on_with_other_rates_but_not_to_another_end(tmp_path, caplog):
    write_state(tmp_path / "state.pt", {"settings": SETTINGS, "precision": "no", "step": 3})
    caplog.set_level(logging.INFO)
    assert read_state(tmp_path / "state.pt", SETTINGS | {"learning_rate": 0.01})["step"] == 3
    assert "after step 3 with learning_rate 0.01, not 0.1" in caplog.text
    with pytest.raises(ValueError, match="only learning_rate, .* may change") as caught:
        read_state(tmp_path / "state.pt", SETTINGS | {"num_steps": 5, "learning_rate": 0.01, "seed": 1})
    assert "saved with num_steps 4 (now 5), seed unset (now 1). Use" in str(caught.value)  # and nothing that may change
    assert f"delete {tmp_path} and what was made from it to begin it anew, or choose" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (SETTINGS | {"shuffle": None}, "shuffle unset (now None)"),
        (SETTINGS | {"ema_decay": 0.9}, "ema_decay unset (now 0.9)"),  # though it may change
        ({"num_steps": 4}, "learning_rate 0.1 (now unset)"),
    ],
)
def test_a_state_of_settings_that_there_were_or_are_not_is_refused(tmp_path, settings, told):
    write_state(tmp_path / "state.pt", {"settings": SETTINGS, "precision": "no", "step": 3})
    with pytest.raises(ValueError, match=re.escape(f"saved with {told}. Use")):
        read_state(tmp_path / "state.pt", settings)


def test_what_may_change_are_the_settings_of_the_loop_that_the_documentation_names():
    named = {"learning_rate", "weight_decay", "max_grad_norm", "ema_decay", "save_every", "mixed_precision"}
    assert set(CHANGEABLE) == named | {"micro_batch_size", "gradient_checkpointing"}
    assert set(CHANGEABLE) < {field.name for field in dataclasses.fields(LoopSettings)}
    text = TRAINING_PAGE.read_text(encoding="utf-8")
    said = text[text.index("of which a run may change") : text.index("when it goes on; the log says so")]
    assert set(re.findall(r"`(\w+)`", said)) == set(CHANGEABLE)


def test_the_command_stops_with_one_sentence_at_a_spoiled_loss_and_goes_on_once_that_is_mended(
    flow_stage, capsys, monkeypatch
):
    command, folder = flow_stage
    flow_losses, calls = velocity.flow_losses, []

    def spoiled(*args):
        calls.append(1)
        spoil = float("nan") if len(calls) == 4 else 1
        return {name: spoil * loss for name, loss in flow_losses(*args).items()}

    with monkeypatch.context() as patch:
        patch.setattr(velocity, "flow_losses", spoiled)
        assert main(command) == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("depthfm: Training first stopped in step 4") and "state of step 2" in complaint
    assert torch.load(folder / "state.pt", weights_only=True)["step"] == 2
    assert main(command) == 0
    assert torch.load(folder / "state.pt", weights_only=True)["step"] == 5
    assert all(tensor.isfinite().all() for tensor in load_file(folder / "network.safetensors").values())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_log_that_cannot_be_written_ends_the_run_with_one_sentence(flow_stage, capsys):
    command, folder = flow_stage
    log = folder.parents[1] / "train.log"
    log.unlink()
    log.symlink_to("/dev/full")
    assert main(command) == 2
    complaint = capsys.readouterr().err
    assert f"{log} cannot be written ([Errno 28] No space left on device)" in complaint and "Traceback" not in complaint
