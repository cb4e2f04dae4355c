"""Packages that only some of the features need: imported where they are used, and named where they are missing."""

import importlib
from types import ModuleType


def import_optional(name: str, user: str, install: str) -> ModuleType:
    """A package, or a part of one ("scipy.io"), that not everybody has.

    Args:
        name: what to import.
        user: what needs it, for the message.
        install: how to get it, for the message.

    Raises:
        ValueError: where it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(describe_missing(error.name, user, install)) from error


def describe_missing(package: str, user: str, install: str) -> str:
    """What `import_optional` says of a package that is not there."""
    return f"{user} needs the package {package}, which is not installed; {install}"
