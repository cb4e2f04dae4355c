"""What is compared: arms, each one training, and experiments, each a set of arms beside the paper's numbers.

All arms differ from `BASE` in one thing, as in the paper: an image prior, a source noised by 400 of 1000 steps, log
depth, no pseudo-labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

CALLS = (1, 2, 4, 10)  # Euler steps, each one call of the network, that every arm is measured with


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        label: what the table says.
        noising_step: how noisy the source is, of 1000; 999 leaves 0.16 % of the image latent, which is noise alone.
        prior: whether to start from the image prior rather than from random weights.
        pseudo_share: pseudo-labeled pictures for each labeled one, 0 to 1.
        space: of the depth that is learned, "log" or "linear".
    """

    label: str
    noising_step: int = 400
    prior: bool = True
    pseudo_share: float = 0.0
    space: str = "log"


BASE = "base"
ARMS: dict[str, Arm] = {
    BASE: Arm("base"),
    "from_noise": Arm("noise to depth", noising_step=999),
    "no_prior": Arm("random weights", prior=False),
    "noising_0": Arm("noise level 0", noising_step=0),
    "noising_200": Arm("noise level 0.2", noising_step=200),
    "noising_600": Arm("noise level 0.6", noising_step=600),
    "noising_800": Arm("noise level 0.8", noising_step=800),
    "pseudo_10": Arm("10 % pseudo-labels", pseudo_share=0.1),
    "pseudo_100": Arm("100 % pseudo-labels", pseudo_share=1.0),
    "linear": Arm("linear depth", space="linear"),
}


@dataclass(frozen=True)
class Claim:
    """That one arm is better than another, which the paper's numbers say.

    Attributes:
        better, worse: keys of `ARMS`.
        calls: at how many calls, of `CALLS`.
    """

    better: str
    worse: str
    calls: int


@dataclass(frozen=True)
class Experiment:
    """Arms to compare, in the order of the plot.

    Attributes:
        title: of the table.
        arms: keys of `ARMS`, with what each is called here.
        metric: "delta1" (higher is better) or "abs_rel" (lower is better).
        published: (arm, calls) -> the paper's value on NYU; delta1 in percent.
        claims: what these values say about the order, where they differ by at least 0.3 points of delta1.
        source: where the values are from.
    """

    title: str
    arms: dict[str, str]
    published: dict[tuple[str, int], float]
    claims: Sequence[Claim]
    source: str
    metric: str = "delta1"


# The paper does not say how many calls the numbers of all but the first are for; its 95.5 is the 10 calls of Table 6.
_PAPERS_CALLS = 10
EXPERIMENTS: dict[str, Experiment] = {
    "source": Experiment(
        title="Where the path starts",
        arms={"from_noise": "noise to depth", BASE: "image to depth"},
        published={("from_noise", 1): 92.4, ("from_noise", 10): 92.6, (BASE, 1): 94.6, (BASE, 10): 95.5},
        claims=(Claim(BASE, "from_noise", 1), Claim(BASE, "from_noise", 10)),
        source="Table 6",
    ),
    "prior": Experiment(
        title="Image prior",
        arms={"no_prior": "random weights", BASE: "image prior"},
        published={("no_prior", _PAPERS_CALLS): 80.0, (BASE, _PAPERS_CALLS): 95.5},
        claims=(Claim(BASE, "no_prior", _PAPERS_CALLS),),
        source="Table 8 (over training: Figure 7)",
    ),
    "noise": Experiment(
        title="Noise level of the source",
        arms={"noising_0": "0", "noising_200": "0.2", BASE: "0.4", "noising_600": "0.6", "noising_800": "0.8"},
        published={
            ("noising_200", _PAPERS_CALLS): 94.4,
            (BASE, _PAPERS_CALLS): 95.5,
            ("noising_600", _PAPERS_CALLS): 95.5,
            ("noising_800", _PAPERS_CALLS): 95.4,
        },
        claims=(Claim(BASE, "noising_200", _PAPERS_CALLS),),
        source="Table 9, which has 93.7 for 0.1 and nothing for 0",
    ),
    "pseudo": Experiment(
        title="Pseudo-labels for each label",
        arms={BASE: "0", "pseudo_10": "0.1", "pseudo_100": "1"},
        published={
            (BASE, _PAPERS_CALLS): 95.5,
            ("pseudo_10", _PAPERS_CALLS): 96.3,
            ("pseudo_100", _PAPERS_CALLS): 96.7,
        },
        claims=(Claim("pseudo_10", BASE, _PAPERS_CALLS), Claim("pseudo_100", "pseudo_10", _PAPERS_CALLS)),
        source="Table 10",
    ),
    "space": Experiment(
        title="Log or linear depth",
        arms={"linear": "linear", BASE: "log"},
        published={("linear", _PAPERS_CALLS): 0.080, (BASE, _PAPERS_CALLS): 0.055},
        claims=(Claim(BASE, "linear", _PAPERS_CALLS),),
        source="Table 11",
        metric="abs_rel",
    ),
}


@dataclass(frozen=True)
class AblationSettings:
    """The budget that every arm gets, and the data.

    Attributes:
        seeds: how many times each arm is trained, from other weights and with other batches.
        num_steps: of each arm.
        prior_steps: of the image prior, one for each seed.
        teacher_steps: of the teacher, one for all.
        batch_size: of all trainings.
        learning_rate: their peak.
        frames: rendered scenes to train on, 10 to 100,000; as many again for the teacher, and as many pictures for it
            to label.
        held_out: other scenes, that every arm is measured on.
        views_per_frame: random crops of each.
        height_px, width_px: of scenes and crops; multiples of 32.
        model_channels: of the network's first level.

    Raises:
        ValueError: for a count that is not positive, a size that the network cannot halve, or frames of which there is
            no tenth, or which would be those of another kind.
    """

    seeds: int = 3
    num_steps: int = 1000
    prior_steps: int = 2000
    teacher_steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 1e-3
    frames: int = 2400
    held_out: int = 120
    views_per_frame: int = 2
    height_px: int = 96
    width_px: int = 128
    model_channels: int = 32

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive.")
        for name in ("height_px", "width_px"):
            if getattr(self, name) % _MULTIPLE_PX:
                raise ValueError(f"{name} is {getattr(self, name)}; choose a multiple of {_MULTIPLE_PX}.")
        if not 10 <= self.frames <= SEEDS_A_KIND:
            raise ValueError(f"frames is {self.frames}; choose 10 to {SEEDS_A_KIND}.")


SEEDS_A_KIND = 100_000  # for each kind of frames, of which none is rendered for two
_MULTIPLE_PX = 32  # eight for the autoencoder, four for the network's three levels


def arms_of(experiments: Sequence[str]) -> list[str]:
    """The arms of some experiments, each once, the base first.

    Raises:
        ValueError: for an unknown experiment.
    """
    unknown = [name for name in experiments if name not in EXPERIMENTS]
    if unknown or not experiments:
        raise ValueError(f"Unknown experiments {unknown}; choose out of {', '.join(EXPERIMENTS)}.")
    return list(dict.fromkeys([BASE, *(arm for name in experiments for arm in EXPERIMENTS[name].arms)]))
