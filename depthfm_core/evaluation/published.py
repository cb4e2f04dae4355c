"""Published zero-shot numbers, to stand beside measured ones, with what keeps them from being compared.

Only numbers that were found are here. The paper's Table 2 was read through a public transcript of it, which has no row
for HDN; that row stands in the second table. Its rows for MiDaS, Omnidata, DPT and DepthFM-ID equal the second table's.
"""

from dataclasses import dataclass

# Published numbers fit scale and shift of something; what a factor alone reaches is another measurement.
PUBLISHED_ALIGNMENTS = ("affine", "log", "disparity")
DATASETS = ("nyu", "kitti", "eth3d", "scannet", "diode")


@dataclass(frozen=True)
class Score:
    """AbsRel and delta1 as fractions, as `metrics` gives them."""

    abs_rel: float
    delta1: float


@dataclass(frozen=True)
class PublishedTable:
    """A published table.

    Attributes:
        title: what it is.
        source: where it was published.
        rows: method -> data set -> score; a data set that the table leaves out is not there.
        notes: what keeps its numbers from being compared with ours or with one another.
    """

    title: str
    source: str
    rows: dict[str, dict[str, Score]]
    notes: tuple[str, ...]


def find_published(method: str) -> dict[str, dict[str, Score]]:
    """Key of `TABLES` -> data set -> score, of every table that has the method."""
    return {name: table.rows[method] for name, table in TABLES.items() if method in table.rows}


def _rows(text: str, datasets: tuple[str, ...] = DATASETS) -> dict[str, dict[str, Score]]:
    """Lines of "method: AbsRel delta1 ...", both in percent, a pair a data set, "- -" for one that is missing."""
    rows = {}
    for line in text.strip().splitlines():
        method, _, numbers = line.partition(":")
        values = numbers.split()
        pairs = zip(datasets, values[::2], values[1::2], strict=True)
        rows[method.strip()] = {
            dataset: Score(round(float(abs_rel) / 100, 4), round(float(delta1) / 100, 4))
            for dataset, abs_rel, delta1 in pairs
            if abs_rel != "-"
        }
    return rows


_DIODE = (
    "DIODE: papers mask it differently. Marigold's protocol keeps the pixels at depth edges; Depth Anything's 6.5 and "
    "6.6 stand beside 26.0 and 26.5 under that protocol."
)
_GEOWIZARD = (
    "GeoWizard: its own numbers (NYU 5.2, KITTI 9.7) include post-processing such as smoothing (as the authors of "
    "E2E-FT report); run again under Marigold's protocol it reached 5.6 and 14.4."
)
TABLES = {
    "depthfm": PublishedTable(
        title="DepthFM, Table 2 (AAAI 2025)",
        source="https://arxiv.org/abs/2403.13788v2",
        rows=_rows("""
            MiDaS: 11.1 88.5 23.6 63.0 18.4 75.2 12.1 84.6 33.2 71.5
            Omnidata: 7.4 94.5 14.9 83.5 16.6 77.8 7.5 93.6 33.9 74.2
            DPT: 9.8 90.3 10.0 90.1 7.8 94.6 8.2 93.4 18.2 75.8
            Depth Anything: 4.3 98.1 7.6 94.7 12.7 88.2 - - 6.6 95.2
            Depth Anything v2: 4.4 97.9 7.5 94.8 13.2 86.2 - - 6.5 95.4
            Metric3D v2: 4.3 98.1 4.4 98.2 4.2 98.3 2.2 99.4 13.6 89.5
            Marigold: 5.5 96.4 9.9 91.6 6.5 96.0 6.4 95.1 30.8 77.3
            GeoWizard: 5.2 96.6 9.7 92.1 6.4 96.1 6.1 95.3 29.7 79.2
            DepthFM-I: 6.0 95.5 9.1 90.2 6.5 95.4 6.6 94.9 22.4 78.5
            DepthFM-ID: 5.5 96.3 8.9 91.3 5.8 96.2 6.3 95.4 21.2 80.0
        """),
        notes=(
            "The alignment and the sizes that DepthFM was measured with are not stated; the baselines' numbers were "
            "taken from Marigold's and GeoWizard's papers.",
            _DIODE,
            _GEOWIZARD,
            "Metric3D v2 on ScanNet carries a mark in the table whose meaning was not found.",
            "The weights that the authors released are very probably those of the first version (table depthfm-v1), "
            "not DepthFM-I or DepthFM-ID.",
            "HDN's row was not found; lotus-2 has one.",
        ),
    ),
    "depthfm-v1": PublishedTable(
        title="DepthFM, first version (2024), comparison figure of its repository",
        source="https://github.com/CompVis/depth-fm",
        rows=_rows(
            """
            DepthFM (first version): 6.5 95.6 8.3 93.4 22.5 80.0
            Naive flow matching: 7.6 94.1 10.0 91.4 23.3 78.4
            """,
            ("nyu", "kitti", "diode"),
        ),
        notes=("What the released depthfm-v1.ckpt should reach. The figure states no alignment.", _DIODE),
    ),
    "lotus-2": PublishedTable(
        title="Lotus-2, Table I (one protocol, Marigold's)",
        source="https://arxiv.org/abs/2512.01030",
        rows=_rows("""
            DiverseDepth: 11.7 87.5 19.0 70.4 22.8 69.4 10.9 88.2 37.6 63.1
            MiDaS: 11.1 88.5 23.6 63.0 18.4 75.2 12.1 84.6 33.2 71.5
            LeReS: 9.0 91.6 14.9 78.4 17.1 77.7 9.1 91.7 27.1 76.6
            Omnidata: 7.4 94.5 14.9 83.5 16.6 77.8 7.5 93.6 33.9 74.2
            DPT: 9.8 90.3 10.0 90.1 7.8 94.6 8.2 93.4 18.2 75.8
            GeoWizard: 5.6 96.3 14.4 82.0 6.6 95.8 6.4 95.0 33.5 72.3
            HDN: 6.9 94.8 11.5 86.7 12.1 83.3 8.0 93.9 24.6 78.0
            GenPercept: 5.6 96.0 13.0 84.2 7.0 95.6 6.2 96.1 35.7 75.6
            Marigold (LCM): 6.1 95.8 9.8 91.8 6.8 95.6 6.9 94.6 30.7 77.5
            MoGe-2: 3.6 98.0 11.8 89.2 16.6 81.5 3.5 98.2 39.3 70.0
            Marigold: 5.5 96.4 9.9 91.6 6.5 95.9 6.4 95.2 30.8 77.3
            DICEPTION: 7.2 93.9 7.5 94.5 5.3 96.7 7.5 93.8 24.3 74.1
            Depth Anything v2: 4.5 97.9 7.4 94.6 13.1 86.5 4.2 97.8 26.5 73.4
            E2E-FT: 5.4 96.5 9.6 92.1 6.4 95.9 5.8 96.5 30.3 77.6
            Lotus-G: 5.4 96.8 8.5 92.2 5.9 97.0 5.9 95.7 22.9 72.9
            DepthFM-ID: 5.5 96.3 8.9 91.3 5.8 96.2 6.3 95.4 21.2 80.0
            MoGe: 3.6 97.9 7.3 95.2 8.4 93.0 3.5 98.4 36.3 71.2
            Depth Anything: 4.3 98.1 7.6 94.7 12.7 88.2 4.3 98.1 26.0 75.9
            Lotus-D: 5.1 97.2 8.1 93.1 6.1 97.0 5.5 96.5 22.8 73.8
            Lotus-2: 4.1 97.6 6.7 94.5 4.6 98.1 4.2 97.6 22.1 75.2
        """),
        notes=(
            "GeoWizard, GenPercept, Marigold (LCM), MoGe and MoGe-2 were run again by the table's authors; the other "
            "rows are quoted, DepthFM-ID's among them.",
            "MoGe and MoGe-2 are fitted by least squares in depth here, not by the alignments that they are made for.",
        ),
    ),
    "metric3d-v2": PublishedTable(
        title="Metric3D v2 (ViT-giant2), table of its repository",
        source="https://github.com/YvanYin/Metric3D",
        rows=_rows(
            "Metric3D v2: 4.3 98.1 4.3 98.2 4.2 98.3 13.6 89.5",
            ("nyu", "kitti", "eth3d", "diode"),
        ),
        notes=(
            "Its authors align by scale alone in one of their tables; which alignment this one has is not stated.",
            _DIODE,
        ),
    ),
    "pixel-perfect-depth": PublishedTable(
        title="Pixel-Perfect Depth (2026)",
        source="https://arxiv.org/abs/2510.07316",
        rows=_rows("""
            Pixel-Perfect Depth (Depth Anything v2): 4.1 97.7 7.0 95.5 4.3 98.0 4.6 97.2 6.8 95.9
            Pixel-Perfect Depth (MoGe-2): 3.3 98.2 5.3 97.0 3.0 99.1 3.5 98.1 5.2 97.0
        """),
        notes=(
            "RANSAC fit to log(depth + 1), and DIODE without pixels at depth edges: comparable neither with Marigold's "
            "protocol nor with plain least squares.",
        ),
    ),
}
