"""`embed-empty-prompt`: what a text encoder makes of "", as a file for a recipe's `null_text`."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--text-encoder",
        type=Path,
        required=True,
        metavar="DIR",
        help="a Stable Diffusion 2.1 folder, or any with text_encoder/ and tokenizer/",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the file to write, .npy or .safetensors"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the embedding and returns 0; ValueError for an unusable folder or suffix."""
    from ..training.null_text import check_suffix, embed_empty_prompt, save_null_text

    check_suffix(args.output)
    embedding = embed_empty_prompt(args.text_encoder)
    save_null_text(embedding, args.output)
    print(f"{args.output}: {list(embedding.shape)}")
    return 0
