"""What the command line does as a whole: its version, a reader that has seen enough, frames with finer rays."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from depthfm_core import __version__
from depthfm_core.__main__ import BROKEN_PIPE, main


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
