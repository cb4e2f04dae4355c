"""What settings refuse by their types; `test_pipeline` has their ranges and what each of them does."""

from dataclasses import fields

import numpy as np
import pytest

from depthfm_core import EstimationSettings

WHOLE = ("num_steps", "max_steps", "ensemble_size", "seed", "members_at_once")
WHOLE_OR_NONE = ("noising_step", "processing_resolution")


@pytest.mark.parametrize("name", WHOLE + WHOLE_OR_NONE)
@pytest.mark.parametrize("value", [2.0, 64.5, "1", True], ids=repr)
def test_a_setting_of_whole_numbers_takes_no_other_type(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}; expected a whole number"):
        EstimationSettings(**{name: value}).check()


@pytest.mark.parametrize("name", WHOLE)
def test_none_is_for_settings_that_the_model_has_a_value_for(name):
    with pytest.raises(ValueError, match=f"{name} is None"):
        EstimationSettings(**{name: None}).check()


def test_whole_numbers_of_numpy_become_pythons():
    settings = EstimationSettings(**dict.fromkeys(WHOLE + WHOLE_OR_NONE, np.int64(64)))
    settings.check()
    assert all(type(getattr(settings, name)) is int for name in WHOLE + WHOLE_OR_NONE)


def test_every_setting_of_whole_numbers_is_tested():
    assert {f.name for f in fields(EstimationSettings) if "int" in str(f.type)} == {*WHOLE, *WHOLE_OR_NONE}
