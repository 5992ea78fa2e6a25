"""What the tests share: one thread, no progress bars, and the real data sets where they are at hand."""

import os

os.environ["COMPANION_PROGRESS"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from companion import settings
from lib import data
from lib.data import files
from lib.data.sources import PATHS

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers for a test, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def real():
    """Load a real set; skip where it is not at hand, fail where COMPANION_DATA promises it."""

    def load(name, **options):
        if lacking := files.missing(PATHS.get(name, ()), settings.data_folder()):
            if os.environ.get("COMPANION_DATA"):
                pytest.fail(f"COMPANION_DATA is set, and {name} lacks {lacking[0]} there")
            pytest.skip(f"{name} is not downloaded")
        return data.load(name, root=settings.data_folder(), download=False, **options)

    return load
