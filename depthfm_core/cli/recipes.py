"""The recipe that `train` and `precompute` are given: a file, or one that comes along, by its name."""

import argparse
from pathlib import Path

RECIPES = Path(__file__).parents[1] / "training"  # the folder of those that come along


def add_recipe_argument(parser: argparse.ArgumentParser) -> None:
    """`RECIPE`, for `find_recipe`."""
    names = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help=f"a file NAME.toml, or one of {names}")


def find_recipe(recipe: Path) -> Path:
    """The file itself, or the one that comes along under this name, with or without .toml.

    Raises:
        ValueError: for neither.
    """
    if recipe.exists() and not recipe.is_dir():  # a folder may be an earlier output, named like it
        return recipe
    shipped = {file.stem: file for file in sorted(RECIPES.glob("*.toml"))}
    name = str(recipe).removesuffix(".toml")
    if name not in shipped:
        raise ValueError(f"There is no recipe {recipe}; shipped are {', '.join(shipped)}, in {RECIPES}.")
    return shipped[name]


def may_train_lora(path: Path) -> bool:
    """Whether a recipe may have a stage with LoRA, for which diffusers must find `peft`; before it is read."""
    return b"lora" in path.read_bytes()
