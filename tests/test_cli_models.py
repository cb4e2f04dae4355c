"""`convert`, `info` and `download`."""

import errno
import os
import shutil
import ssl
import time
import urllib.error
from http.client import BadStatusLine, IncompleteRead

import huggingface_hub
import pytest
import torch

from depthfm_core import EstimationSettings, load_pipeline, replacing
from depthfm_core.__main__ import main
from depthfm_core.cli import download
from depthfm_core.model import catalog
from depthfm_core.model.catalog import Download

SETTINGS = EstimationSettings(num_steps=1, processing_resolution=32)


@pytest.fixture(scope="module")
def checkpoint(golden_dir):
    return golden_dir / "depthfm-micro-heads8.ckpt"


@pytest.fixture(scope="module")
def vae(golden_dir):
    return golden_dir / "micro-vae-diffusers.safetensors"


def info(path, capsys):
    assert main(["info", str(path)]) == 0
    facts = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    return {name: value.strip() for name, value in facts.items()}


def test_convert_keeps_the_model(checkpoint, vae, tmp_path, capsys):
    target = tmp_path / "model.safetensors"
    assert main(["convert", str(checkpoint), str(target)]) == 0
    assert str(target) in capsys.readouterr().out
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before, after = (load_pipeline(path, vae)(image, SETTINGS).log_depth for path in (checkpoint, target))
    torch.testing.assert_close(before, after, rtol=0, atol=0)  # the file holds half precision, and so does ours


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_convert_writes_the_precision_that_was_asked_for(checkpoint, tmp_path, capsys, dtype):
    target = tmp_path / "model.safetensors"
    assert main(["convert", str(checkpoint), str(target), "--dtype", dtype]) == 0
    capsys.readouterr()
    before, after = info(checkpoint, capsys), info(target, capsys)
    assert after["parameters"].endswith(dtype)
    for changed in ("file", "parameters"):
        del before[changed], after[changed]
    assert before == after


@pytest.mark.parametrize("target", ["model.ckpt", "no/such/folder/model.safetensors"])
def test_convert_refuses_a_target_and_leaves_nothing(checkpoint, tmp_path, capsys, target):
    assert main(["convert", str(checkpoint), str(tmp_path / target)]) == 2
    assert capsys.readouterr().err.startswith("depthfm: ")
    assert list(tmp_path.iterdir()) == []


def test_convert_refuses_a_folder_before_it_reads_the_source(tmp_path, capsys):
    (tmp_path / "source.ckpt").write_bytes(b"no checkpoint, which reading would find")
    (tmp_path / "models").mkdir()
    assert main(["convert", str(tmp_path / "source.ckpt"), str(tmp_path / "models")]) == 2
    assert f"{tmp_path / 'models'} is a folder; name a file in it" in capsys.readouterr().err


def test_convert_names_the_target_that_cannot_be_written(checkpoint, tmp_path, capsys, read_only):
    assert main(["convert", str(checkpoint), str(tmp_path / "model.safetensors")]) == 2
    told = f"depthfm: {tmp_path / 'model.safetensors'} cannot be written (Read-only file system); free some space"
    assert capsys.readouterr().err.startswith(told)


def test_info_says_what_a_file_holds(checkpoint, capsys):
    facts = info(checkpoint, capsys)
    assert facts["parameters"].startswith("1,050,564 in 286 tensors")
    assert facts["heads a level"] == "8, 8" and facts["channels a level"] == "32, 64"
    assert facts["noising step"].startswith("400")
    assert facts["processing resolution"].startswith("448")
    assert facts["empty text embedding"] == "1, 77, 24"
    assert "--vae" in facts["autoencoder"]


def test_info_takes_names_and_finds_an_autoencoder_inside(capsys):
    assert info("nano", capsys)["autoencoder"].startswith("AutoencoderTiny, ")


def test_info_refuses_what_is_no_checkpoint(vae, capsys):
    assert main(["info", str(vae)]) == 2
    error = capsys.readouterr().err
    assert str(vae) in error and error.count("\n") == 1


@pytest.fixture
def published(checkpoint, vae, golden_dir, tmp_path, monkeypatch):
    """A published model on this machine: its URL is a file's, and its autoencoder comes without a network."""

    def snapshot(_repository, allow_patterns, local_dir):
        assert allow_patterns == ["config.json", "*.safetensors"]
        (local_dir / ".cache").mkdir()
        shutil.copy(vae, local_dir / "diffusion_pytorch_model.safetensors")
        shutil.copy(golden_dir / "micro-vae-diffusers.json", local_dir / "config.json")

    monkeypatch.setenv("DEPTHFM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    for module in (catalog, download):
        monkeypatch.setattr(
            module, "DOWNLOADS", {"depthfm-v1": Download(checkpoint.as_uri(), "model.ckpt", "a/b", "MIT")}
        )
    return tmp_path / "home" / "depthfm-v1"


def contents(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


WHOLE = ["model.ckpt", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"]


def test_a_downloaded_model_is_found_by_its_name(published, checkpoint, capsys):
    assert main(["download", "depthfm-v1"]) == 0
    printed = capsys.readouterr()
    assert checkpoint.as_uri() in printed.out and str(published) in printed.out and printed.err == ""
    assert contents(published) == WHOLE
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert load_pipeline("depthfm-v1")(image, SETTINGS).depth.shape == (1, 1, 32, 32)


def test_a_download_goes_to_the_folder_that_was_named_and_says_how_to_use_it(published, tmp_path, capsys):
    folder = tmp_path / "models"
    assert main(["download", "depthfm-v1", "--folder", str(folder)]) == 0
    assert contents(folder) == WHOLE and not published.exists()
    assert f"--model {folder / 'model.ckpt'} --vae {folder / 'vae'}" in capsys.readouterr().out


def test_what_is_there_is_kept(published, monkeypatch, capsys):
    (published / "vae").mkdir(parents=True)
    (published / "model.ckpt").write_text("mine")
    monkeypatch.setattr(download.urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    assert main(["download", "depthfm-v1"]) == 0
    assert (published / "model.ckpt").read_text() == "mine"
    assert capsys.readouterr().err == ""


def unreachable(*_args, **_kwargs):
    raise urllib.error.URLError(OSError(-2, "Name or service not known"))


def refused(capsys, *telling):
    assert main(["download", "depthfm-v1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("depthfm: ") and error.count("\n") == 1
    for words in telling:
        assert str(words) in error


def test_without_a_network_the_url_and_the_place_are_named_and_nothing_is_made(
    published, checkpoint, monkeypatch, capsys
):
    monkeypatch.setattr(download.urllib.request, "urlopen", unreachable)
    refused(capsys, checkpoint.as_uri(), published / "model.ckpt", "Name or service not known")
    assert not published.exists()


def test_a_missing_autoencoder_names_its_page_and_keeps_the_checkpoint(published, monkeypatch, capsys):
    def broken(_repository, allow_patterns, local_dir):
        (local_dir / allow_patterns[0]).write_text("{")
        raise huggingface_hub.errors.LocalEntryNotFoundError("Got: ConnectError\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    refused(capsys, "https://huggingface.co/a/b", published / "vae", "ConnectError")
    assert contents(published) == ["model.ckpt"]


def test_a_connection_that_breaks_in_the_middle_is_reported(published, monkeypatch, capsys):
    transport_error = huggingface_hub.errors.HfHubHTTPError.__bases__[0]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", raiser(transport_error("reset by peer")))
    refused(capsys, "https://huggingface.co/a/b", "reset by peer")


def raiser(error):
    def call(*_args, **_kwargs):
        raise error

    return call


@pytest.mark.parametrize("error", [IncompleteRead(b"half", 100), BadStatusLine("<html>")], ids=type)
def test_an_answer_that_is_cut_or_no_answer_is_reported(published, checkpoint, monkeypatch, capsys, error):
    monkeypatch.setattr(download.urllib.request, "urlopen", raiser(error))
    refused(capsys, checkpoint.as_uri(), "could not be fetched", "another machine")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_full_disk_is_told_as_such(published, monkeypatch, capsys, number):
    monkeypatch.setattr(download.shutil, "copyfileobj", raiser(OSError(number, "No more")))
    refused(capsys, published / "model.ckpt", "cannot be written", "No more", "--folder")
    assert contents(published) == []


def test_a_broken_encryption_is_the_networks_whose_error_has_a_number_of_the_disks(
    published, checkpoint, monkeypatch, capsys
):
    monkeypatch.setattr(download.shutil, "copyfileobj", raiser(ssl.SSLError(errno.EPERM, "bad record")))
    refused(capsys, checkpoint.as_uri(), "could not be fetched", "bad record")


@pytest.mark.parametrize(("hours", "is_left"), [(23, True), (25, False)])
def test_what_downloads_left_that_were_killed_a_day_ago_is_removed(published, hours, is_left):
    published.mkdir(parents=True)
    for place in (published / "model.ckpt", published / "vae"):
        left = place.with_name(f"{replacing._beginning(place)}0.tmp")
        left.mkdir() if place.name == "vae" else left.write_bytes(b"half")
        os.utime(left, (0, time.time() - 3600 * hours))
    assert main(["download", "depthfm-v1"]) == 0
    names = [path.name for path in published.iterdir()]
    assert {"model.ckpt", "vae"} <= {*names} and len(names) == (4 if is_left else 2)


def test_info_says_where_the_autoencoder_lies_or_that_it_is_missing(published, capsys):
    assert main(["download", "depthfm-v1"]) == main(["info", "depthfm-v1"]) == 0
    assert f"beside it, {published / 'vae'}" in capsys.readouterr().out
    shutil.rmtree(published / "vae")
    assert main(["info", "depthfm-v1"]) == 0
    assert f"missing, {published / 'vae'}; `download` fetches it" in capsys.readouterr().out


@pytest.mark.parametrize(("share", "telling"), [(0.5, "the connection ended after"), (1.0, "")])
def test_a_cut_download_leaves_nothing(published, checkpoint, monkeypatch, capsys, share, telling):
    content = checkpoint.read_bytes()
    cut = content[: int(len(content) * share)] if share < 1 else b"<html>Please log in</html>"
    length = len(content) if share < 1 else len(cut)
    monkeypatch.setattr(download.urllib.request, "urlopen", lambda *_args, **_kwargs: Response(cut, length))
    refused(capsys, checkpoint.as_uri(), telling)
    assert contents(published) == []


class Response:
    """What `urlopen` gives for a body, and the length that its header claims."""

    def __init__(self, body, length):
        self.headers = {"Content-Length": str(length)}
        self.rest = body

    def read(self, size):
        part, self.rest = self.rest[:size], self.rest[size:]
        return part

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        return False
