"""Solvers on equations with known answers.

x' = -2 t x^2 has velocities that depend on time and, not linearly, on state, so that a stage at the wrong time or with
the wrong weight shows.
"""

import math

import numpy as np
import pytest
import scipy.integrate
import torch
import torchdiffeq

from depthfm_core.flow import GRIDS, SOLVERS, integrate, time_grid
from depthfm_core.flow.ode import network_calls

ORDER = {"euler": 1, "midpoint": 2, "heun": 2, "ralston": 2, "ab2": 2, "rk4": 4}
TORCHDIFFEQ = {"euler": "euler", "midpoint": "midpoint", "heun": "heun2", "rk4": "rk4"}
X_0 = torch.tensor([[1.0], [-0.5]], dtype=torch.float64)


def decay(x, t):
    return -2 * t * x**2


def decay_error(solver, num_steps, grid="uniform"):
    x_1 = integrate(decay, X_0, num_steps, solver, grid=grid).x_1
    return float((x_1 - 1 / (1 / X_0 + 1)).abs().max())


def counted(velocity):
    calls = []

    def wrapped(x, t):
        calls.append(t)
        return velocity(x, t)

    return wrapped, calls


def test_every_fixed_solver_has_a_stated_order():
    assert set(ORDER) == {name for name, calls in SOLVERS.items() if calls is not None}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("solver", ORDER)
def test_halving_the_step_divides_the_error_by_two_to_the_order(solver, grid):
    measured = math.log2(decay_error(solver, 64, grid) / decay_error(solver, 128, grid))
    assert measured == pytest.approx(ORDER[solver], abs=0.2)


@pytest.mark.parametrize("solver", TORCHDIFFEQ)
def test_fixed_solvers_agree_with_torchdiffeq(solver):
    times = torch.tensor(time_grid(5, "rho"), dtype=torch.float64)
    theirs = torchdiffeq.odeint(lambda t, x: decay(x, t), X_0, times, method=TORCHDIFFEQ[solver])[-1]
    torch.testing.assert_close(integrate(decay, X_0, 5, solver, grid="rho").x_1, theirs, rtol=1e-12, atol=0)


def test_euler_equals_torchdiffeq_to_the_last_bit_in_float32():
    x_0 = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    times = torch.tensor(time_grid(7))
    theirs = torchdiffeq.odeint(lambda t, x: torch.sin(3 * x) - t, x_0, times, method="euler")[-1]
    ours = integrate(lambda x, t: torch.sin(3 * x) - torch.tensor(t), x_0, 7).x_1
    assert torch.equal(ours, theirs)


def test_ralston_equals_its_formula_for_one_step():
    k1 = decay(X_0, 0.0)
    k2 = decay(X_0 + 2 / 3 * k1, 2 / 3)
    torch.testing.assert_close(integrate(decay, X_0, 1, "ralston").x_1, X_0 + k1 / 4 + 3 * k2 / 4)


@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-9])
def test_dopri5_keeps_its_tolerance_and_agrees_with_scipy(rtol):
    def pendulum(x, t):
        return torch.stack([x[1], -9 * torch.sin(x[0]) + math.cos(5 * t)])

    x_0 = torch.tensor([1.0, 0.0], dtype=torch.float64)
    ours = integrate(pendulum, x_0, 10, "dopri5", rtol=rtol, atol=rtol).x_1
    exact = scipy.integrate.solve_ivp(
        lambda t, x: pendulum(torch.tensor(x), t).numpy(), (0, 1), x_0.numpy(), rtol=1e-12, atol=1e-12
    ).y[:, -1]
    assert np.abs(ours.numpy() - exact).max() < 20 * rtol


def test_dopri5_is_of_order_five_and_equals_scipys_step():
    one_step = integrate(decay, X_0, 1, "dopri5", rtol=1e6, atol=1e6).x_1
    theirs = scipy.integrate.RK45(lambda t, x: -2 * t * x**2, 0, X_0[:, 0].numpy(), 1, first_step=1, rtol=1e6, atol=1e6)
    theirs.step()
    np.testing.assert_allclose(one_step[:, 0].numpy(), theirs.y, rtol=1e-12)


def test_dopri5_reaches_small_tolerances_in_float32():
    def smooth(x, t):
        return torch.sin(3 * x) * (1 + t) - x

    x_0 = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    single, double = (integrate(smooth, x, 2, "dopri5", rtol=1e-7, atol=1e-9) for x in (x_0, x_0.double()))
    assert single.num_calls == pytest.approx(double.num_calls, rel=0.1)


def test_dopri5_accepts_no_step_to_an_infinite_state():
    states = []
    integrate(lambda x, t: torch.full_like(x, 3e38), torch.tensor([2e38]), 1, "dopri5", on_step=states.append)
    assert states and all(progress.x_t.isfinite().all() for progress in states)


def test_dopri5_tries_smaller_steps_where_the_first_is_too_long():
    velocity, calls = counted(lambda x, t: 40 * math.cos(40 * t) * torch.ones_like(x))
    x_1, num_calls = integrate(velocity, X_0, 1, "dopri5", rtol=1e-6, atol=1e-6)
    assert num_calls == len(calls) > 7
    torch.testing.assert_close(x_1, X_0 + math.sin(40), rtol=0, atol=1e-4)


def test_dopri5_does_not_try_a_rejected_last_step_again():
    # Nothing happens until the middle, so the next step grows beyond the end and is cut there; then much happens.
    velocity, calls = counted(lambda x, t: torch.full_like(x, math.sin(40 * max(0.0, t - 0.5))))
    integrate(velocity, X_0, 2, "dopri5", rtol=1e-9, atol=1e-9)
    assert sum(math.isclose(t, 0.65) for t in calls) == 1  # the second stage of a step from 0.5 to 1


@pytest.mark.parametrize("sign", [1, -1])
def test_dopri5s_tolerance_is_relative_to_the_larger_end_of_a_step(sign):
    # From 0 to 100, or from 100 to 0: either way an error of a few is within a tenth of 100.
    x_0 = torch.full((1, 1), 0.0 if sign > 0 else 100.0)
    solution = integrate(lambda x, t: torch.full_like(x, sign * 600 * t**5), x_0, 1, "dopri5", rtol=0.1, atol=1e-4)
    assert solution.num_calls == 7


def test_dopri5s_steps_are_those_that_the_worst_sample_of_a_batch_needs():
    def calls(*speeds):
        speed = torch.tensor(speeds)[:, None]
        return integrate(lambda x, t: 40 * math.cos(40 * t) * speed, torch.zeros_like(speed), 1, "dopri5").num_calls

    assert calls(1.0, *[0.0] * 99) == calls(1.0)


def test_dopri5_gives_up_at_its_step_limit():
    with pytest.raises(RuntimeError, match="max_steps"):
        integrate(lambda x, t: x * float("nan") if t else x, X_0, 4, "dopri5", max_steps=5)


@pytest.mark.parametrize("until", [0.0, 0.5])
def test_dopri5_does_not_try_all_its_steps_where_the_velocity_overflows_on_the_way(until):
    velocity, calls = counted(lambda x, t: x if t <= until else x * float("inf"))
    assert not integrate(velocity, X_0, 4, "dopri5").x_1.isfinite().any()
    assert len(calls) < 300  # of 1,200


def test_dopri5_goes_around_an_overflow_that_only_long_steps_meet():
    x_1 = integrate(
        lambda x, t: torch.where(x.abs() < 1e4, -1e4 * x, torch.inf), torch.ones(1), 1, "dopri5", max_steps=10**5
    ).x_1
    assert x_1.abs() < 1e-3


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_velocity_that_is_never_finite_gives_a_result_that_is_not_and_takes_no_longer(solver):
    velocity, calls = counted(lambda x, _t: x * float("inf"))
    assert not integrate(velocity, X_0, 2, solver).x_1.isfinite().any()
    assert len(calls) == (network_calls(solver, 2) or 1)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 61])
@pytest.mark.parametrize("solver", ORDER)
def test_a_fixed_solver_makes_exactly_its_steps_and_calls(solver, num_steps):
    velocity, calls = counted(decay)
    reports = []
    solution = integrate(velocity, X_0, num_steps, solver, on_step=reports.append)
    assert len(calls) == solution.num_calls == SOLVERS[solver] * num_steps == network_calls(solver, num_steps)
    assert [r.step for r in reports] == list(range(1, num_steps + 1))
    assert reports[-1].t == 1.0 and reports[-1].num_calls == len(calls)
    assert torch.equal(reports[-1].x_t, solution.x_1)


def test_ab2_passes_steps_of_length_zero():
    assert time_grid(10, "rho", 12.0)[-1] == time_grid(10, "rho", 12.0)[-2]
    x_1 = integrate(decay, X_0, 10, "ab2", grid="rho", rho=12.0).x_1
    torch.testing.assert_close(x_1, integrate(decay, X_0, 10, "euler", grid="rho", rho=12.0).x_1, rtol=0.2, atol=0.2)


def test_dopri5_does_not_know_its_calls_beforehand():
    assert network_calls("dopri5", 3) is None


@pytest.mark.parametrize("solver", ["euler", "midpoint", "ralston", "ab2"])
def test_solvers_meant_for_few_steps_never_ask_for_the_end_point(solver):
    velocity, calls = counted(decay)
    integrate(velocity, X_0, 3, solver)
    assert max(calls) < 1


def test_times_are_float32_numbers_from_zero_to_one_on_the_host():
    for grid in GRIDS:
        times = time_grid(3, grid)
        assert times[0] == 0 and times[-1] == 1
        assert times == torch.tensor(times, dtype=torch.float32).tolist()


def test_the_rho_grid_shrinks_its_steps_towards_the_end():
    assert time_grid(4, "rho", 2.0) == pytest.approx([0, 1 - 0.75**2, 1 - 0.5**2, 1 - 0.25**2, 1])
    assert time_grid(4, "rho", 1.0) == time_grid(4)


def test_an_exception_in_on_step_ends_the_integration():
    velocity, calls = counted(decay)

    def cancel(progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        integrate(velocity, X_0, 10, on_step=cancel)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"num_steps": -3}, "num_steps"),
        ({"solver": "rk5"}, "rk4"),
        ({"grid": "log"}, "uniform"),
        ({"grid": "rho", "rho": 0.0}, "rho"),
        ({"solver": "dopri5", "rtol": -1.0}, "rtol"),
        ({"solver": "dopri5", "atol": 0.0}, "atol"),
        ({"solver": "dopri5", "max_steps": 0}, "max_steps"),
    ],
)
def test_a_setting_outside_its_range_names_what_is_accepted(wrong, word):
    with pytest.raises(ValueError, match=word):
        integrate(decay, X_0, **({"num_steps": 2} | wrong))
