"""Packages that not everybody has."""

import json

import pytest

from depthfm_core.optional import import_optional


def test_what_is_installed_is_imported():
    assert import_optional("json", "A test", "pip install it") is json


def test_what_is_missing_is_named_with_what_needs_it_and_how_to_get_it():
    with pytest.raises(ValueError, match="A test needs the package no_such_package, which is not installed; get it"):
        import_optional("no_such_package.part", "A test", "get it")
