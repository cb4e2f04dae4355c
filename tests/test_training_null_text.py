"""The empty prompt's embedding: from a text encoder, as a file, and back."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from depthfm_core.__main__ import main
from depthfm_core.model.layouts import read_null_text_file
from depthfm_core.model.reading import CheckpointError
from depthfm_core.training.null_text import embed_empty_prompt

from .sd_prior import write_text_encoder


def test_the_empty_prompt_is_what_the_text_encoder_makes_of_77_tokens(tmp_path):
    from transformers import CLIPTextModel

    write_text_encoder(tmp_path)
    with torch.no_grad():
        tokens = torch.tensor([[2, 3] + [0] * 75])  # start, end, and "!" as padding
        expected = CLIPTextModel.from_pretrained(tmp_path / "text_encoder")(tokens).last_hidden_state
    assert expected.shape == (1, 77, 8)
    torch.testing.assert_close(embed_empty_prompt(tmp_path), expected, rtol=0, atol=1e-6)


def test_an_encoder_saved_with_the_names_of_stable_diffusion_gives_the_same(tmp_path):
    expected = embed_empty_prompt(write_text_encoder(tmp_path))
    file = tmp_path / "text_encoder" / "model.safetensors"
    old = {f"text_model.{name.removeprefix('text_model.')}": t.half() for name, t in load_file(file).items()}
    save_file(old | {"text_model.embeddings.position_ids": torch.arange(77)[None]}, file, metadata={"format": "pt"})
    again = embed_empty_prompt(tmp_path)
    assert again.dtype == torch.float32
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", ["empty.npy", "empty.safetensors"])
def test_the_command_writes_a_file_that_is_read_back(tmp_path, name, capsys):
    write_text_encoder(tmp_path)
    file = tmp_path / "new" / name
    assert main(["embed-empty-prompt", "--text-encoder", str(tmp_path), "--output", str(file)]) == 0
    assert "[1, 77, 8]" in capsys.readouterr().out
    assert torch.equal(read_null_text_file(file), embed_empty_prompt(tmp_path))
    assert [path.name for path in file.parent.iterdir()] == [name]


def lose_a_tensor(folder):
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    tensors.pop(next(name for name in tensors if name.endswith("final_layer_norm.bias")))
    save_file(tensors, file, metadata={"format": "pt"})


ENCODER_FAULTS = {
    "no tokenizer": (lambda folder: shutil.rmtree(folder / "tokenizer"), "no tokenizer/tokenizer_config.json"),
    "no weights": (lambda folder: (folder / "text_encoder" / "model.safetensors").unlink(), "no usable text encoder"),
    "a lost tensor": (lose_a_tensor, "lacks 1 tensors, for example .*final_layer_norm.bias"),
    "another model": (
        lambda folder: (folder / "text_encoder" / "config.json").write_text(json.dumps({"model_type": "bert"})),
        "is a bert, not a clip_text_model",
    ),
}


@pytest.mark.parametrize("fault", ENCODER_FAULTS)
def test_a_folder_that_is_no_text_encoder_says_what_is_wrong(tmp_path, fault):
    change, complaint = ENCODER_FAULTS[fault]
    change(write_text_encoder(tmp_path))
    with pytest.raises(CheckpointError, match=complaint):
        embed_empty_prompt(tmp_path)


def test_a_file_of_another_kind_is_no_empty_prompt(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="holds no empty_text_embedding .it has weight"):
        read_null_text_file(tmp_path / "a.safetensors")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(CheckpointError, match="unreadable"):
        read_null_text_file(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="must end in .npy or .safetensors"):  # before the encoder is looked at
        main(["embed-empty-prompt", "--text-encoder", "none", "--output", "a.pt", "--traceback"])
