"""What the tests share: one thread, no progress bars, and the real data sets where they are at hand."""

import json
import os

os.environ["TQDM_DISABLE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from companion import runs, settings
from lib import data
from lib.data import files
from lib.data.sources import PATHS

torch.set_num_threads(1)
torch.zeros((), requires_grad=True).backward()  # after an export to ONNX the first one would forbid forks to train


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers for a test, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def recorded():
    """What the committed records say of their data: (name, split, variant) → the sha256 of the decoded tensors."""
    found = {}
    for file in sorted(settings.ROOT.glob("data/runs/*.jsonl")):
        for record in map(json.loads, file.read_text("utf-8").splitlines()):
            options, made = record["config"].get("data"), record["provenance"]
            if options and "size" not in options:
                key = options["name"], options.get("split", 0), made["data_variant"]
                assert found.setdefault(key, made["data_sha256"]) == made["data_sha256"]
    return found


def at_hand(name):
    """Skip where a real set is not at hand, fail where COMPANION_DATA promises it."""
    if lacking := files.missing(PATHS.get(name, ()), settings.data_folder()):
        if os.environ.get("COMPANION_DATA"):
            pytest.fail(f"COMPANION_DATA is set, and {name} lacks {lacking[0]} there")
        pytest.skip(f"{name} is not downloaded")


@pytest.fixture
def data_of():
    """Load the data of a record as its run did, once in this process; the fingerprint is the record's."""

    def load(record):
        options, made = runs.resolve(record["config"])["data"], record["provenance"]
        at_hand(options["name"])
        split = runs.datasets.load(options)
        assert split.variant != made["data_variant"] or split.sha256 == made["data_sha256"]

    return load


@pytest.fixture
def real(recorded):
    """Load a real set; skip where it is not at hand, fail where COMPANION_DATA promises it.

    Its fingerprint is that of the committed records.
    """

    def load(name, **options):
        at_hand(name)
        ds = data.load(name, root=settings.data_folder(), download=False, **options)
        assert ds.sha256 == recorded.get((name, options.get("split", 0), ds.variant), ds.sha256)
        return ds

    return load
