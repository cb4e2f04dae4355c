"""Files in working order, what tests break of them, and the check that a command refuses it."""

import numpy as np
import pytest
from PIL import Image

from depthfm_core.__main__ import main
from depthfm_core.model.checkpoints import convert

QUICK = ("--steps", "1", "--resolution", "32")


@pytest.fixture(scope="module")
def good_files(golden_dir, tmp_path_factory):
    """A checkpoint in both formats, an autoencoder and a picture, all in working order."""
    folder = tmp_path_factory.mktemp("files")
    convert(golden_dir / "depthfm-micro-heads8.ckpt", folder / "model.safetensors")
    Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)).save(folder / "photo.png")
    return {
        "ckpt": golden_dir / "depthfm-micro-heads8.ckpt",
        "safetensors": folder / "model.safetensors",
        "vae": golden_dir / "micro-vae-diffusers.safetensors",
        "photo": folder / "photo.png",
    }


@pytest.fixture
def refused(good_files, tmp_path, capsys):
    """Runs `predict` and checks that it refuses in one sentence, with nothing written."""

    def run(*options, photo=None, model=None, vae=None):
        output = tmp_path / "out"
        chosen = {"--model": model or good_files["ckpt"], "--vae": vae or good_files["vae"], "--output": output}
        named = (str(part) for option in chosen.items() for part in option)
        code = main(["predict", str(photo or good_files["photo"]), *QUICK, *named, *options])
        errors = capsys.readouterr().err.strip()
        assert code == 2
        assert errors.startswith("depthfm: ") and len(errors) > 20
        assert "\n" not in errors and "Traceback" not in errors
        assert not output.exists()
        return errors

    return run


class Runs:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def in_itself():
    content = {}
    content["state_dict"] = content
    return content
