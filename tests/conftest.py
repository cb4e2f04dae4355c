from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden_dir():
    """Checkpoints, inputs and outputs of the published method on small random weights; see README.md there."""
    return GOLDEN
