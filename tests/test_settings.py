"""What settings refuse, as soon as they are made; `test_pipeline` has what each of them does."""

import time
from dataclasses import fields, replace

import numpy as np
import pytest

from depthfm_core import EstimationSettings

WHOLE = ("num_steps", "max_steps", "ensemble_size", "seed", "members_at_once")
WHOLE_OR_NONE = ("noising_step", "processing_resolution")


@pytest.mark.parametrize("name", WHOLE + WHOLE_OR_NONE)
@pytest.mark.parametrize("value", [2.0, 64.5, "1", True], ids=repr)
def test_a_setting_of_whole_numbers_takes_no_other_type(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}; expected a whole number"):
        EstimationSettings(**{name: value})


@pytest.mark.parametrize("name", WHOLE)
def test_none_is_for_settings_that_the_model_has_a_value_for(name):
    with pytest.raises(ValueError, match=f"{name} is None"):
        EstimationSettings(**{name: None})


def test_whole_numbers_of_numpy_become_pythons():
    settings = EstimationSettings(**dict.fromkeys(WHOLE + WHOLE_OR_NONE, np.int64(64)))
    assert all(type(getattr(settings, name)) is int for name in WHOLE + WHOLE_OR_NONE)


def test_every_setting_of_whole_numbers_is_tested():
    assert {f.name for f in fields(EstimationSettings) if "int" in str(f.type)} == {*WHOLE, *WHOLE_OR_NONE}


NUMBERS, NAMES = ("rho", "rtol", "atol"), ("solver", "grid", "reduction", "average")


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, value) for name in NUMBERS for value in ("2", None, True, 1j, [1.0]))]
    + [*((name, value) for name in NAMES for value in (3, None, ["euler"]))],
    ids=str,
)
def test_numbers_and_names_take_no_other_type(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*; expected a"):
        EstimationSettings(**{name: value})


def test_every_number_and_name_is_tested():
    assert {f.name for f in fields(EstimationSettings) if f.type in (float, str)} == {*NUMBERS, *NAMES}


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_steps": 0},
        {"num_steps": 10_001},
        {"solver": "x"},
        {"grid": "x"},
        {"rho": 0.0},
        {"solver": "dopri5", "rtol": -1.0},
        {"solver": "dopri5", "atol": 0.0},
        {"solver": "dopri5", "max_steps": 0},
        {"solver": "dopri5", "max_steps": 1},
        {"ensemble_size": 0},
        {"reduction": "x"},
        {"average": "x"},
        {"seed": -1},
        {"noising_step": 1000},
        {"processing_resolution": -5},
        {"members_at_once": -1},
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_refused_when_it_is_made_or_replaced(wrong):
    name = list(wrong)[-1]
    with pytest.raises(ValueError, match=name):
        EstimationSettings(**wrong)
    with pytest.raises(ValueError, match=name):
        replace(EstimationSettings(), **wrong)


def test_settings_of_many_steps_are_made_in_no_time():
    start = time.perf_counter()
    EstimationSettings(num_steps=10_000, solver="rk4")
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize("name", ["align_members", "noise_per_image"])
@pytest.mark.parametrize("value", ["no", 2, 1.0, None], ids=repr)
def test_a_switch_takes_no_other_type(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}; expected True or False"):
        EstimationSettings(**{name: value})
