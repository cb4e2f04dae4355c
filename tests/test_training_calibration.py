import pytest
import torch

from depthfm_core.training import calibration
from depthfm_core.training.calibration import log_depth_error, measure_spread_scale
from depthfm_core.training.validation import HeldOut


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_prediction_that_is_right_up_to_scale_and_shift_has_no_error():
    depth_m = draw(2, 1, 8, 8).exp()
    valid = draw(2, 1, 8, 8, seed=1) > -1
    log_depth = depth_m.log() * torch.tensor([0.3, 2.0])[:, None, None, None] + 0.7
    assert log_depth_error(log_depth, depth_m.where(valid, 0.0), valid).abs().max() < 1e-5


def test_the_error_is_in_the_predictions_own_units():
    depth_m, noise = draw(1, 1, 64, 64).exp(), 0.1 * draw(1, 1, 64, 64, seed=1)
    valid = torch.ones_like(depth_m, dtype=torch.bool)
    for scale in (0.5, 3.0):
        error = log_depth_error(scale * (depth_m.log() + noise), depth_m, valid)
        assert error.std() == pytest.approx(0.1 * scale, rel=0.05)


@pytest.mark.parametrize("own_noise", [0.1, 0.4])
def test_the_scale_is_the_error_over_the_spread(monkeypatch, own_noise):
    """Members share a mistake of size 0.3 and differ by noise; eight of them average most of the noise away."""
    depth_m = draw(4, 1, 48, 48).exp()
    truth, shared = depth_m.log(), 0.3 * draw(4, 1, 48, 48, seed=1)
    seeds = iter(range(2, 100))

    def estimate(*_):
        return truth + shared + own_noise * draw(4, 1, 48, 48, seed=next(seeds))

    monkeypatch.setattr(calibration, "estimate", estimate)
    valid = torch.ones_like(depth_m, dtype=torch.bool)
    held_out = HeldOut(torch.zeros(4, 4, 6, 6), depth_m, valid, depth_m.expand(-1, 3, -1, -1))
    expected = (0.3**2 + own_noise**2 / 8) ** 0.5 / own_noise
    assert measure_spread_scale(None, None, held_out, 400) == pytest.approx(expected, rel=0.05)


def test_members_without_spread_leave_the_scale_at_one(monkeypatch, capsys):
    depth_m = draw(2, 1, 8, 8).exp()
    monkeypatch.setattr(calibration, "estimate", lambda *_: depth_m.log())
    valid = torch.ones_like(depth_m, dtype=torch.bool)
    held_out = HeldOut(torch.zeros(2, 4, 1, 1), depth_m, valid, depth_m.expand(-1, 3, -1, -1))
    assert measure_spread_scale(None, None, held_out, 400) == 1.0
    assert "spread: 100%" in capsys.readouterr().err  # of minutes on a CPU


def test_what_was_not_measured_does_not_count_for_the_scale(monkeypatch):
    """As above, but where nothing is measured, half of the picture, members differ by ten times the noise."""
    depth_m, own_noise = draw(4, 1, 48, 48).exp(), 0.1
    valid = torch.arange(48) < 24
    truth, shared = depth_m.log(), 0.3 * draw(4, 1, 48, 48, seed=1)
    seeds = iter(range(2, 100))

    def estimate(*_):
        noise = own_noise * draw(4, 1, 48, 48, seed=next(seeds))
        return truth + shared + noise.where(valid, 10 * noise)

    monkeypatch.setattr(calibration, "estimate", estimate)
    valid = valid.expand_as(depth_m)
    held_out = HeldOut(torch.zeros(4, 4, 6, 6), depth_m, valid, depth_m.expand(-1, 3, -1, -1))
    expected = (0.3**2 + own_noise**2 / 8) ** 0.5 / own_noise
    assert measure_spread_scale(None, None, held_out, 400) == pytest.approx(expected, rel=0.05)
