"""What a method gives, turned into what an alignment fits.

A method says what its numbers are. Depth up to scale and shift cannot be turned into log depth (its zero is unknown),
nor disparity up to scale and shift into depth; so not every method can be scored under every alignment, and none is
scored under one that its numbers do not fit.
"""

from collections.abc import Callable, Iterable

from torch import Tensor

from ..depth.prediction import exp_below_max

_LEAST_DEPTH = 1e-6  # a method may say 0 or less of a pixel


def _same(values: Tensor) -> Tensor:
    return values


def _exp_of_negative(log_depth: Tensor) -> Tensor:
    return exp_below_max(-log_depth)


def _log(depth: Tensor) -> Tensor:
    return depth.clamp_min(_LEAST_DEPTH).log()


def _inverse(depth: Tensor) -> Tensor:
    return 1 / depth.clamp_min(_LEAST_DEPTH)


# What a method gives -> alignment -> how its numbers become what the alignment fits.
SPACES: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "depth": {"affine": _same},
    "relative_depth": {"affine": _same, "log": _log, "disparity": _inverse, "scale": _same},
    # A factor is left open by every alignment that takes depth.
    "log_depth": {"affine": exp_below_max, "log": _same, "disparity": _exp_of_negative, "scale": exp_below_max},
    "disparity": {"disparity": _same},
    "depth_m": {"affine": _same, "log": _log, "disparity": _inverse, "scale": _same},
}


def check_alignments(gives: str, alignments: Iterable[str], method: str = "A method") -> None:
    """Raises ValueError, naming the method, for an alignment that cannot express what it gives."""
    for alignment in alignments:
        if alignment not in SPACES[gives]:
            raise ValueError(
                f"{method} gives {gives}, which cannot be aligned by {alignment!r}; choose "
                f"{' or '.join(SPACES[gives])}."
            )


def to_space(values: Tensor, gives: str, alignment: str) -> Tensor:
    """The method's numbers [B, 1, h, w] as what the alignment fits.

    Raises:
        ValueError: for an alignment that cannot express what the method gives.
    """
    check_alignments(gives, [alignment])
    return SPACES[gives][alignment](values)
