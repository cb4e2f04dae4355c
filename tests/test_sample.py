import dataclasses

import pytest
import torch

from depthfm_core.data.sample import DepthSample

PARTS = {
    "image": torch.zeros(3, 4, 6),
    "depth_m": torch.ones(1, 4, 6),
    "valid": torch.ones(1, 4, 6, dtype=torch.bool),
}


def test_a_sample_hands_back_the_very_tensors_it_was_given():
    sample = DepthSample(**PARTS)
    assert all(getattr(sample, name) is value for name, value in PARTS.items())


def test_a_sample_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DepthSample(**PARTS).image = torch.ones(3, 4, 6)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("image", torch.zeros(1, 4, 6)),
        ("image", torch.zeros(1, 3, 4, 6)),
        ("image", torch.zeros(3, 4, 6, dtype=torch.uint8)),
        ("depth_m", torch.ones(4, 6)),
        ("depth_m", torch.ones(1, 4, 6, dtype=torch.float64)),
        ("valid", torch.ones(1, 4, 6)),
        ("valid", torch.ones(3, 4, 6, dtype=torch.bool)),
    ],
)
def test_a_wrong_shape_or_type_is_refused_with_its_name_and_shape(name, wrong):
    with pytest.raises(ValueError, match=name) as error:
        DepthSample(**{**PARTS, name: wrong})
    assert str(list(wrong.shape)) in str(error.value)


@pytest.mark.parametrize("name", PARTS)
def test_tensors_of_different_sizes_are_refused(name):
    with pytest.raises(ValueError, match="one height and width"):
        DepthSample(**{**PARTS, name: PARTS[name][:, :, :5]})
