"""kill -9 at random times over a chain of stages: it goes on each time, and ends with the same bits, nothing left over.

ATTACK_SEED repeats a draw, ATTACK_KILLS changes their number.
"""

import os
import random
import time

import chains
import pytest
import warm

from companion import runs, settings

SEED = os.environ["ATTACK_SEED"]
KILLS = int(os.environ.get("ATTACK_KILLS", "200"))
CHAINS = 20
LOST = ("kept as", "cannot be read", "counts as missing", "Error")


def whole(store):
    """Every record that is there can be read, whatever a kill came in between."""
    for path in [*store.rglob("*.json"), *store.rglob("*.jsonl")]:
        lines = [line for line in path.read_bytes().split(b"\n") if line]
        assert all(runs.store.parse(line, path.name) for line in lines), path
    leftover = [path for path in store.rglob("*.pt") if not path.name.startswith(".")]
    for path in leftover:
        assert runs.execution.training.load_whole(path), path


@pytest.mark.parametrize("k", range(CHAINS))
def test_a_chain_goes_on_after_each_kill(k, note, tmp_path, monkeypatch):
    warm.imported()  # kills are drawn over the seconds of a chain alone
    rng, kills, log = random.Random(f"{SEED} {k}"), 0, tmp_path / "log"
    monkeypatch.setenv("COMPANION_RUNS", str(tmp_path / "oracle"))
    started = time.monotonic()
    chains.trained(k)
    seconds, expected = time.monotonic() - started, chains.found(k)
    monkeypatch.setenv("COMPANION_RUNS", str(tmp_path / "runs"))
    while kills < KILLS // CHAINS:
        status, said = warm.tried(lambda: chains.trained(k), log, kill_after=rng.uniform(0, 0.8 * seconds))
        if status not in (0, -9):
            raise RuntimeError(f"ATTACK_SEED={SEED}, chain {k}, after {kills} kills: {said}")
        assert not any(word in said for word in LOST), (SEED, k, kills, status, said)
        if status == -9:
            kills += 1
            whole(tmp_path / "runs")
            note("survived")
        else:
            assert chains.found(k) == expected, (SEED, k, "it ended with other numbers")
            (settings.runs_folder() / "chain.jsonl").unlink()
    status, said = warm.tried(lambda: chains.trained(k), log)
    assert status == 0 and not any(word in said for word in LOST), (SEED, k, said)
    assert chains.found(k) == expected, (SEED, k, "it ended with other numbers")
    left = [path for path in (tmp_path / "runs").rglob("*") if path.is_file() and path.suffix not in (".lock",)]
    assert sorted(path.name for path in left) == sorted(["chain.jsonl", f"{runs.identity(chains.config(k))}.npz"]), left
