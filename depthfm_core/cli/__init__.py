"""The command line: one file a command, each with `add_arguments(parser)` and `run(args) -> exit code`."""

import argparse

from .. import quick_imports

# Command, which is also its module here (with _ for -), and what it does. `__main__` imports the one that runs and no
# other, so that a package which only one command needs is missed by that command alone.
COMMANDS = {
    "predict": "depth maps of pictures and folders of pictures",
    "convert": "a checkpoint of any layout to one safetensors file",
    "download": "fetch a published model",
    "info": "what a checkpoint holds",
    "label": "depth for photographs by a teacher, to train on",
    "precompute": "the latents of a training, ahead of it",
    "train": "train a model",
    "embed-empty-prompt": "the constant that stands for text, from a text encoder",
    "evaluate": "scores of models on a data set, with a report",
    "table": "several reports of evaluate as one table, methods x data sets",
    "ablate": "the paper's ablations, small, with a table and a plot",
    "bench": "how fast, how small and how exact each way of estimating is here",
    "synth": "render synthetic pictures with depth",
}


def import_networks(args: argparse.Namespace, *, compiled: bool = False) -> None:
    """In a process of our own imports what builds networks the quick way, for commands that use nothing else.

    Args:
        args: the command's.
        compiled: whether they will be compiled by PyTorch.
    """
    if args.own_process:
        quick_imports.import_networks(compiled=compiled)
