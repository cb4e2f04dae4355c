import argparse
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from depthfm_core import load_pipeline
from depthfm_core.loading import takes_another_autoencoder
from depthfm_core.model.catalog import find_model
from depthfm_core.model.checkpoints import convert, load_checkpoint
from depthfm_core.model.reading import CheckpointError, read_tensor_file

FIRST = "input_blocks.0.0.weight"
TEXT = "empty_text_embedding"


@pytest.fixture(scope="module")
def published(golden_dir):
    """What the published layout pickles, with every entry."""
    return torch.load(golden_dir / "depthfm-micro-heads8.ckpt", weights_only=False)


@pytest.fixture(scope="module")
def reference(golden_dir):
    return load_checkpoint(golden_dir / "depthfm-micro-heads8.ckpt")


def tensors(published):
    return {name: t.clone() for name, t in published["state_dict"].items()}


def embedding(published):
    return {TEXT: torch.from_numpy(published[TEXT])}


def published_ckpt(published, folder):
    torch.save(published, folder / "a.ckpt")
    return folder / "a.ckpt"


def torch_zip_named_safetensors(published, folder):
    torch.save(published, folder / "a.safetensors")
    return folder / "a.safetensors"


def safetensors_called_ckpt(published, folder):
    save_file(tensors(published) | embedding(published), folder / "a.ckpt")
    return folder / "a.ckpt"


def legacy_pickle(published, folder):
    torch.save(published, folder / "a.pt", _use_new_zipfile_serialization=False)
    return folder / "a.pt"


def namespace_hyper_parameters(published, folder):
    torch.save(published | {"ldm_hparams": argparse.Namespace(**published["ldm_hparams"])}, folder / "a.ckpt")
    return folder / "a.ckpt"


def safetensors_with_metadata(published, folder):
    metadata = {"ldm_hparams": json.dumps(published["ldm_hparams"]), "noising_step": "400"}
    save_file(tensors(published) | embedding(published), folder / "a.safetensors", metadata=metadata)
    return folder / "a.safetensors"


def embedding_beside(published, folder):
    save_file(tensors(published), folder / "a.safetensors")
    np.save(folder / f"{TEXT}.npy", published[TEXT])
    return folder / "a.safetensors"


def prefixed(prefix):
    def write(published, folder):
        save_file(
            {prefix + k: v for k, v in tensors(published).items()} | embedding(published), folder / "a.safetensors"
        )
        return folder / "a.safetensors"

    write.__name__ = f"prefix {prefix}"
    return write


def diffusers_folder(published, folder):
    network = load_checkpoint(published_ckpt(published, folder)).build_unet()
    checkpoint = load_checkpoint(folder / "a.ckpt")
    from depthfm_core.model.names import ldm_to_diffusers

    (folder / "pipeline" / "unet").mkdir(parents=True)
    weights = {k: v.contiguous() for k, v in ldm_to_diffusers(checkpoint.state_dict, checkpoint.hyper).items()}
    save_file(weights, folder / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
    config = json.dumps(dict(network.unet.config), default=list)
    (folder / "pipeline" / "unet" / "config.json").write_text(config)
    save_file(embedding(published), folder / "pipeline" / f"{TEXT}.safetensors")
    return folder / "pipeline"


LAYOUTS = [
    published_ckpt,
    torch_zip_named_safetensors,
    safetensors_called_ckpt,
    legacy_pickle,
    namespace_hyper_parameters,
    safetensors_with_metadata,
    embedding_beside,
    diffusers_folder,
    *(prefixed(p) for p in ("model.", "model.diffusion_model.", "diffusion_model.", "state_dict.")),
]


def test_a_diffusers_folder_brings_the_autoencoder_that_lies_in_it(published, golden_dir, tmp_path):
    folder = diffusers_folder(published, tmp_path)
    assert find_model(folder) == (folder, None)
    put_autoencoder(golden_dir, folder, scale=0.18215)
    assert load_pipeline(folder).codec.scaling_factor == 0.18215 and takes_another_autoencoder(folder)


def test_a_diffusers_folder_with_latents_of_its_own_takes_no_other_autoencoder(published, golden_dir, tmp_path):
    folder = diffusers_folder(published, tmp_path)
    put_autoencoder(golden_dir, folder, scale=0.9)
    assert load_pipeline(folder).codec.scaling_factor == 0.9 and not takes_another_autoencoder(folder)
    with pytest.raises(ValueError, match="latents of its own autoencoder.*leave out vae"):
        load_pipeline(folder, golden_dir / "micro-vae-diffusers.safetensors")


def put_autoencoder(golden_dir, folder, scale):
    (folder / "vae").mkdir()
    config = json.loads((golden_dir / "micro-vae-diffusers.json").read_text()) | {"scaling_factor": scale}
    (folder / "vae" / "config.json").write_text(json.dumps(config))
    shutil.copy(golden_dir / "micro-vae-diffusers.safetensors", folder / "vae/diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_every_layout_reads_as_the_same_model(layout, published, reference, tmp_path):
    checkpoint = load_checkpoint(layout(published, tmp_path))
    assert checkpoint.hyper == reference.hyper
    assert checkpoint.noising_step == 400
    assert torch.equal(checkpoint.null_text, reference.null_text)
    assert checkpoint.state_dict.keys() == reference.state_dict.keys()
    assert all(torch.equal(checkpoint.state_dict[k], reference.state_dict[k]) for k in reference.state_dict)


@pytest.mark.parametrize("layout", [published_ckpt, legacy_pickle], ids=lambda f: f.__name__)
def test_an_older_pytorch_says_what_a_torch_file_needs_and_reads_safetensors(published, tmp_path, monkeypatch, layout):
    path = layout(published, tmp_path)
    convert(path, tmp_path / "converted.safetensors", "float32")
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.4.1+cu121"))
    with pytest.raises(
        CheckpointError, match=r"needs PyTorch 2\.6 or newer; this is 2\.4\.1\+cu121\. Update PyTorch"
    ) as told:
        load_checkpoint(path)
    assert "convert the file to safetensors" in str(told.value)
    assert load_checkpoint(tmp_path / "converted.safetensors").noising_step == 400


@pytest.mark.parametrize("numpy_module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_an_array_pickled_by_an_old_or_new_numpy_is_read(published, tmp_path, numpy_module):
    path = published_ckpt(published, tmp_path)
    content = path.read_bytes()
    modern, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    assert modern in content or old in content
    pickled = torch.load(path, weights_only=False)

    class RenamingPickler(pickle._Pickler):
        def save_global(self, obj, name=None):
            if getattr(obj, "__name__", "") == "_reconstruct":
                self.write(pickle.GLOBAL + numpy_module.encode() + b"\n_reconstruct\n")
                self.memoize(obj)
            else:
                super().save_global(obj, name)

    renaming = argparse.Namespace(__name__="renaming", Pickler=RenamingPickler, dumps=pickle.dumps)
    torch.save(pickled, tmp_path / "b.ckpt", pickle_module=renaming)
    assert numpy_module.encode() in (tmp_path / "b.ckpt").read_bytes()
    assert torch.equal(load_checkpoint(tmp_path / "b.ckpt").null_text, torch.from_numpy(published[TEXT]))


def test_a_given_embedding_serves_a_file_that_holds_none_and_yields_to_one_inside(published, tmp_path, caplog):
    given = torch.randn(1, 77, 24)
    save_file(tensors(published), tmp_path / "a.safetensors")
    assert torch.equal(load_checkpoint(tmp_path / "a.safetensors", given).null_text, given)
    assert not caplog.records
    own = load_checkpoint(published_ckpt(published, tmp_path), given).null_text
    assert torch.equal(own, torch.from_numpy(published[TEXT]))
    assert "in the file is used, not the one given" in caplog.text


@pytest.mark.parametrize("shape", [(1, 77, 23), (2, 77, 24), (24,)])
def test_a_given_embedding_of_another_encoder_is_refused(published, tmp_path, shape):
    save_file(tensors(published), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"expected \[1, L, 24\].*Stable Diffusion 2\.1"):
        load_checkpoint(tmp_path / "a.safetensors", torch.zeros(shape))


def test_head_channels_are_read_from_the_file(golden_dir):
    assert load_checkpoint(golden_dir / "depthfm-micro-headdim16.ckpt").hyper.heads == (2, 4)


def test_a_file_that_names_no_heads_gets_eight(published, tmp_path):
    hyper = {k: v for k, v in published["ldm_hparams"].items() if k != "num_heads"}
    torch.save(published | {"ldm_hparams": hyper}, tmp_path / "a.ckpt")
    assert load_checkpoint(tmp_path / "a.ckpt").hyper.heads == (8, 8)


def broken(published, **changes):
    return published | {"state_dict": tensors(published)} | changes


def without(published, name):
    state = tensors(published)
    del state[name]
    return broken(published, state_dict=state)


def with_tensor(published, name, tensor):
    return broken(published, state_dict=tensors(published) | {name: tensor})


def whole(published, channels):
    """With parts of Stable Diffusion beside the UNet, under the names of its published files."""
    unet = {f"model.diffusion_model.{name}": tensor for name, tensor in tensors(published).items()}
    first = {f"model.diffusion_model.{FIRST}": torch.zeros(32, channels, 3, 3)}
    others = ("betas", "first_stage_model.encoder.conv_in.weight", "cond_stage_model.model.ln_final.bias")
    return {"state_dict": unet | first | {name: torch.zeros(3) for name in others}}


FAULTS = {
    "missing key": (lambda p: without(p, "out.2.bias"), "out.2.bias"),
    "extra key": (lambda p: with_tensor(p, "out.3.bias", torch.zeros(4)), "out.3.bias"),
    "wrong shape": (lambda p: with_tensor(p, "out.2.bias", torch.zeros(5)), "out.2.bias"),
    "integers": (lambda p: with_tensor(p, "out.2.bias", torch.zeros(4, dtype=torch.long)), "floating point"),
    "no unet": (lambda p: broken(p, state_dict={"a": torch.zeros(1)}), FIRST),
    "empty": (lambda _: {}, "no tensors"),
    "text to image": (lambda p: with_tensor(p, FIRST, torch.zeros(32, 4, 3, 3)), "4 input channels"),
    "inpainting": (lambda p: with_tensor(p, FIRST, torch.zeros(32, 9, 3, 3)), "9 input channels"),
    "whole, text to image": (lambda p: whole(p, 4), "is not a DepthFM checkpoint: it is a whole Stable Diffusion"),
    "whole, inpainting": (lambda p: whole(p, 9), "is not a DepthFM checkpoint: it is a whole Stable Diffusion"),
    "saved with others": (lambda p: whole(p, 8), "unexpected tensors: .*betas"),
    "foreign tensors": (lambda p: broken(p, other={"weight": torch.zeros(1)}), "other.weight"),
    "no embedding": (lambda p: {k: v for k, v in p.items() if k != TEXT}, "empty prompt"),
    "wrong embedding": (lambda p: broken(p, **{TEXT: np.zeros((1, 77, 8), np.float32)}), r"\[1, L, 24\]"),
    "wrong heads": (lambda p: broken(p, ldm_hparams=p["ldm_hparams"] | {"num_heads": 7}), "7 heads"),
    "wrong hyper-parameters": (lambda p: broken(p, ldm_hparams=p["ldm_hparams"] | {"channel_mult": [1, 4]}), "shape"),
    "no dictionary": (lambda p: broken(p, ldm_hparams=3), "describes itself"),
    "noising step": (lambda p: broken(p, noising_step=1000), "noising_step"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_no_whole_depthfm_says_what_is_wrong(published, tmp_path, fault):
    change, word = FAULTS[fault]
    torch.save(change(published), tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=word) as caught:
        load_checkpoint(tmp_path / "a.ckpt")
    assert str(tmp_path / "a.ckpt") in str(caught.value) or "folder" in str(caught.value)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "none.ckpt")
    with pytest.raises(CheckpointError, match=r"unet/config\.json"):
        load_checkpoint(tmp_path)


class Payload:
    """A pickle that would create a file while it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_never_runs_code(published, tmp_path, zipped):
    mark = tmp_path / "ran"
    torch.save(published | {"hook": Payload(mark)}, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="run code"):
        load_checkpoint(tmp_path / "a.ckpt")
    assert not mark.exists()


def test_metadata_of_a_wrong_kind_is_refused(golden_dir, tmp_path):
    convert(golden_dir / "depthfm-micro-heads8.ckpt", tmp_path / "a.safetensors")
    content = load_file(tmp_path / "a.safetensors")
    for metadata in ({"ldm_hparams": "{"}, {"noising_step": "many"}, {"spread_scale": "-1"}, {"ldm_hparams": "[]"}):
        save_file(content, tmp_path / "b.safetensors", metadata=metadata)
        with pytest.raises(CheckpointError, match="describes itself"):
            load_checkpoint(tmp_path / "b.safetensors")


def test_a_safetensors_file_whose_first_byte_is_that_of_a_pickle_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    for padding in range(256):  # the first byte is the low one of the length of the JSON
        save_file({"weight": torch.ones(2)}, path, metadata={"padding": "x" * padding})
        if path.read_bytes()[:1] == b"\x80":
            break
    assert path.read_bytes()[:1] == b"\x80"
    assert torch.equal(read_tensor_file(path)[0]["weight"], torch.ones(2))
