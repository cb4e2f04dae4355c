"""Solvers of dx/dt = velocity(x, t) from t = 0 (image) to t = 1 (depth).

The time grid is float32 and lives on the host: a bf16 grid would round its points, and a grid on the device would cost
a synchronisation a step. A table holds every solver; fixed ones make exactly `num_steps` steps.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

VelocityField = Callable[[Tensor, float], Tensor]


class SolverProgress(NamedTuple):
    """What `on_step` is told after each step."""

    step: int
    num_steps: int
    num_calls: int
    t: float
    x_t: Tensor


class Solution(NamedTuple):
    """The end of the path, and how often the velocity was asked for."""

    x_1: Tensor
    num_calls: int


class Tableau(NamedTuple):
    """An explicit Runge-Kutta method: stage times, stage weights and final weights (Butcher's c, a, b)."""

    times: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    result: tuple[float, ...]


RUNGE_KUTTA = {
    "euler": Tableau((0,), ((),), (1,)),
    "midpoint": Tableau((0, 1 / 2), ((), (1 / 2,)), (0, 1)),
    "heun": Tableau((0, 1), ((), (1,)), (1 / 2, 1 / 2)),
    "ralston": Tableau((0, 2 / 3), ((), (2 / 3,)), (1 / 4, 3 / 4)),
    # Kutta's 3/8 rule, as torchdiffeq's "rk4".
    "rk4": Tableau((0, 1 / 3, 2 / 3, 1), ((), (1 / 3,), (-1 / 3, 1), (1, -1, 1)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
}
# Dormand and Prince 1980, table 2; the last row of weights is also the fifth-order result.
_DOPRI5 = Tableau(
    (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
)
_DOPRI5_FOURTH = (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
# Fifth order less fourth, by weights: the difference of two states would be lost in their rounding.
_DOPRI5_ERROR = tuple(fifth - fourth for fifth, fourth in zip(_DOPRI5.result, _DOPRI5_FOURTH, strict=True))

_SHORTEST_STEP = 1e-6  # that dopri5 tries where the velocity overflows

GRIDS = ("uniform", "rho")
MAX_NUM_STEPS = 10_000  # far beyond use; a mistyped number should not fill the memory


def time_grid(num_steps: int, grid: str = "uniform", rho: float = 2.0) -> list[float]:
    """The num_steps + 1 times from 0 to 1, each a float32 number.

    Args:
        num_steps: 1 to 10,000.
        grid: "uniform", or "rho" for t_k = 1 - (1 - k / N)^rho.
        rho: > 0; above 1 steps shrink towards t = 1, where the ensemble's spread is decided.

    Raises:
        ValueError: for an unknown grid, or a number outside its range.
    """
    if not 1 <= num_steps <= MAX_NUM_STEPS:
        raise ValueError(f"num_steps is {num_steps}; choose 1 to {MAX_NUM_STEPS}.")
    if grid not in GRIDS:
        raise ValueError(f"Unknown grid {grid!r}; choose one of {', '.join(GRIDS)}.")
    if not 0 < rho < math.inf:
        raise ValueError(f"rho is {rho}; choose a positive number (2 shrinks the steps towards depth).")
    times = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64, device="cpu")
    if grid == "rho":
        times = 1 - (1 - times) ** rho
    return times.float().tolist()


def integrate(
    velocity: VelocityField,
    x_0: Tensor,
    num_steps: int,
    solver: str = "euler",
    *,
    grid: str = "uniform",
    rho: float = 2.0,
    rtol: float = 1e-3,
    atol: float = 1e-4,
    max_steps: int = 200,
    on_step: Callable[[SolverProgress], None] | None = None,
) -> Solution:
    """The state at t = 1 of dx/dt = velocity(x, t), starting at x_0.

    Args:
        velocity: (x_t, t) -> dx/dt in the shape of x_t; t is a float in [0, 1].
        x_0: the state at t = 0, any shape.
        num_steps: exactly so many steps; for "dopri5" the first trial step is 1 / num_steps.
        solver: one of `SOLVERS`.
        grid, rho: see `time_grid`; "dopri5" chooses its own times.
        rtol, atol: "dopri5" keeps the root mean square of error / (atol + rtol |x|) below 1 at every step.
        max_steps: the most steps, rejected ones included, that "dopri5" may try.
        on_step: called after every accepted step; an exception that it raises ends the integration.

    A velocity that is not finite gives a result that is not finite, whatever the solver.

    Raises:
        ValueError: for an unknown solver or grid, or a number outside its range.
        RuntimeError: when "dopri5" needs more than `max_steps` steps.

    Source: Hairer, Norsett, Wanner, "Solving Ordinary Differential Equations I", chapters II.1, II.4, II.5 and III.1.
    """
    if solver not in SOLVERS:
        raise ValueError(f"Unknown solver {solver!r}; choose one of {', '.join(SOLVERS)}.")
    times = time_grid(num_steps, grid, rho)
    report = on_step or (lambda _progress: None)
    if solver == "dopri5":
        if not (rtol >= 0 and atol > 0 and max_steps >= 1):
            raise ValueError(
                f"rtol {rtol}, atol {atol}, max_steps {max_steps}: choose rtol >= 0, atol > 0, max_steps >= 1."
            )
        return _dopri5(velocity, x_0, 1 / num_steps, rtol, atol, max_steps, report)
    if solver == "ab2":
        return _adams_bashforth2(velocity, x_0, times, report)
    return _runge_kutta(velocity, x_0, times, RUNGE_KUTTA[solver], report)


def network_calls(solver: str, num_steps: int) -> int | None:
    """How many velocities a solver asks for; None for "dopri5", which finds out as it goes."""
    calls_a_step = SOLVERS[solver]
    return None if calls_a_step is None else calls_a_step * num_steps


# Solver -> calls of the network a step; None where the solver decides.
SOLVERS: dict[str, int | None] = {name: len(tableau.times) for name, tableau in RUNGE_KUTTA.items()}
SOLVERS |= {"ab2": 1, "dopri5": None}


def _runge_kutta(
    velocity: VelocityField, x: Tensor, times: list[float], tableau: Tableau, report: Callable
) -> Solution:
    num_steps = len(times) - 1
    for step in range(num_steps):
        slopes = _stages(velocity, x, times[step], times[step + 1], tableau)
        x = _advance(x, times[step + 1] - times[step], tableau.result, slopes)
        num_calls = (step + 1) * len(tableau.times)
        report(SolverProgress(step + 1, num_steps, num_calls, times[step + 1], x))
    return Solution(x, num_steps * len(tableau.times))


def _stages(
    velocity: VelocityField, x: Tensor, t: float, t_next: float, tableau: Tableau, first: Tensor | None = None
) -> list[Tensor]:
    """The slopes of one step; `first` is the one at (x, t) where it is known already."""
    slopes = [velocity(x, t) if first is None else first]
    for c, weights in zip(tableau.times[1:], tableau.weights[1:], strict=True):
        stage_t = t_next if c == 1 else t + c * (t_next - t)
        slopes.append(velocity(_advance(x, t_next - t, weights, slopes), stage_t))
    return slopes


def _advance(x: Tensor, dt: float, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """x + dt * sum of weight * slope, skipping weights of zero."""
    for weight, slope in zip(weights, slopes, strict=False):
        if weight:
            x = x + (dt * weight) * slope
    return x


def _adams_bashforth2(velocity: VelocityField, x: Tensor, times: list[float], report: Callable) -> Solution:
    """Two-step Adams-Bashforth for uneven steps, started with one Euler step."""
    num_steps = len(times) - 1
    previous, previous_dt = None, 0.0
    for step in range(num_steps):
        dt = times[step + 1] - times[step]
        slope = velocity(x, times[step])
        if previous is None or previous_dt == 0:  # two times of a "rho" grid may round to one
            x = x + dt * slope
        else:
            half_ratio = dt / previous_dt / 2
            x = _advance(x, dt, (1 + half_ratio, -half_ratio), [slope, previous])
        previous, previous_dt = slope, dt
        report(SolverProgress(step + 1, num_steps, step + 1, times[step + 1], x))
    return Solution(x, num_steps)


def _dopri5(
    velocity: VelocityField, x: Tensor, dt: float, rtol: float, atol: float, max_steps: int, report: Callable
) -> Solution:
    """Dormand-Prince 5(4) with local extrapolation; the last slope of a step is the first of the next."""
    t, accepted, num_calls, slope = 0.0, 0, 1, velocity(x, 0.0)
    if not bool(slope.isfinite().all()):  # no step is small enough for that
        return Solution(torch.full_like(x, torch.nan), num_calls)
    for _ in range(max_steps):
        t_next = 1.0 if t + dt > 1 - 1e-6 else t + dt
        dt = t_next - t  # the last step ends at 1; if it is rejected, the next try is shorter than what was tried
        slopes = _stages(velocity, x, t, t_next, _DOPRI5, first=slope)
        num_calls += len(slopes) - 1
        x_next = _advance(x, dt, _DOPRI5.result, slopes)
        error = _error_ratio(x, x_next, _advance(torch.zeros_like(x), dt, _DOPRI5_ERROR, slopes), rtol, atol)
        if error <= 1:
            t, x, slope, accepted = t_next, x_next, slopes[-1], accepted + 1
            report(SolverProgress(accepted, max_steps, num_calls, t, x))
            if t == 1.0:
                return Solution(x, num_calls)
        if error == math.inf and dt < _SHORTEST_STEP:
            return Solution(torch.full_like(x, torch.nan), num_calls)
        dt *= min(10.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))
    raise RuntimeError(
        f"dopri5 reached only t = {t:.4f} in {max_steps} steps; raise max_steps, or loosen rtol {rtol} and atol {atol}."
    )


def _error_ratio(x: Tensor, x_next: Tensor, error: Tensor, rtol: float, atol: float) -> float:
    """The root mean square of error / tolerance of the worst sample of the batch; infinite for a non-finite state."""
    tolerance = atol + rtol * torch.maximum(x.abs(), x_next.abs())
    ratio = (error / tolerance).square().flatten(1 if x.ndim > 1 else 0).mean(-1).sqrt().max()
    return float(ratio) if bool(ratio.isfinite() & x_next.isfinite().all()) else math.inf
