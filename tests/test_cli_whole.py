"""What the command line does as a whole: its version, a reader that has seen enough, frames with finer rays."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depthfm_core import __version__
from depthfm_core.__main__ import BROKEN_PIPE, main
from depthfm_core.cli import predict
from depthfm_core.cli.errors import BAD_INPUT

PACK = str(Path(__file__).parents[1])


def test_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal of a closed pipe")
def test_a_reader_that_has_seen_enough_ends_it_without_a_word():
    command = [sys.executable, "-m", "depthfm_core", "info", "nano"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(120) == BROKEN_PIPE


def in_shell(tmp_path, *arguments, redirect):
    """Runs a command with a redirection of the shell's; its exit code and what it wrote to the stream that is left."""
    command = ["sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-m", "depthfm_core", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": PACK})
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_a_full_disk_behind_the_output_is_told(tmp_path):
    code, told = in_shell(tmp_path, "info", "nano", redirect=">/dev/full")
    assert code == BAD_INPUT and told.count("\n") == 1
    assert told.startswith("depthfm: The output could not be written (No space left on device)")


@pytest.mark.skipif(sys.platform == "win32", reason="its shell closes no streams")
def test_closed_streams_are_no_fault(tmp_path):
    options = ("--resolution", "32", "--steps", "1")
    code, told = in_shell(tmp_path, "predict", *options, redirect="0<&- 2>&-")
    assert code == 0 and "room_color.png" in told
    assert sorted(path.name for path in (tmp_path / "depth").iterdir()) == ["room_color.png", "room_depth16.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal of a closed pipe")
def test_a_reader_that_has_seen_enough_is_no_fault_of_a_picture(tmp_path):
    command = [sys.executable, "-m", "depthfm_core", "predict", "--resolution", "32", "--steps", "1"]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path / "depth")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert "depthfm:" not in process.stderr.read() and process.wait(120) == BROKEN_PIPE


def test_what_windows_says_of_a_closed_pipe_is_one(tmp_path, monkeypatch):
    """And not the picture's fault; what else a stream or a disk says stays what it is."""
    said = [errno.EINVAL, errno.ENOSPC]
    monkeypatch.setattr(predict.tqdm, "write", lambda _line: (_ for _ in ()).throw(OSError(said.pop(0), "no")))
    for kind in (BrokenPipeError, OSError):
        with pytest.raises(OSError) as told:
            predict._tell("a line")
        assert type(told.value) is kind


def test_finer_rays_change_the_pictures_of_synth_and_not_the_depth(tmp_path):
    pytest.importorskip("embreex")
    pytest.importorskip("numba")
    frames = {}
    for name, options in {"plain": [], "fine": ["--antialias"]}.items():
        arguments = ["synth", str(tmp_path / name), "--count", "1", "--seed", "1", "--size", "32", "48", *options]
        assert main(arguments) == 0
        frames[name] = [np.array(Image.open(path)) for path in sorted((tmp_path / name).iterdir())]
    same = {image.ndim: np.array_equal(image, fine) for image, fine in zip(*frames.values(), strict=True)}
    assert same == {2: True, 3: False}  # depth, picture
