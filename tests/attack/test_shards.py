"""Every notebook as a shard of a batch, at `quick`: the one part is made, and the cells after it are left out."""

import lists
import pytest


@pytest.mark.parametrize("part", ["train", "timing"])
@pytest.mark.parametrize("notebook", lists.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_shard_runs(notebook, part, note, tmp_path):
    refused = lists.tried(notebook, tmp_path, {"part": part}, steps=2)
    assert not refused
    note(refused)
