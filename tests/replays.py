"""What the tests of replays share: one record of every experiment, and its training's beginning, trained again.

python tests/replays.py notes the first steps of the heavy ones in tests/reference/beginnings.json; `make attack` proves
that they go on to the record's first log point.
"""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from companion import runs
from companion.runs import configuration, execution, provenance

ROOT = Path(__file__).resolve().parent.parent
BEGINNINGS = ROOT / "tests" / "reference" / "beginnings.json"
FIRST, SECONDS = 20, 15  # of a heavy record `make test` trains so many steps, or those that took it so long
REPLAY = """
import json, sys, torch
sys.path.append("tests")
from replays import replay
torch.set_num_threads(1)
print(json.dumps(replay(*json.load(sys.stdin))))
"""


def cheapest():
    """The cheapest committed chain of every experiment; its grid trains the same networks and is not taken as well."""
    for path in sorted((ROOT / "data" / "runs").glob("*.jsonl")):
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        chains = [r for r in records if r["config"]["kind"] == "chain" and r["status"] == "done"]
        if chains and not path.stem.endswith(("_grid", "_rules")):
            yield min(chains, key=lambda record: (record["wall_s"], record["id"]))


def heavy(record):
    """Whether its first log point was more than twenty seconds away."""
    row = record["rows"][0]
    return row["train_s"] * row["curves"]["step"][0] > 20 * row["steps"]


def replay(record, steps, scored=True):
    """Train the first `steps` of a record's first stage again and return the curves, to hold against the record's.

    A record in fp32 in fp32; one in bf16 as this processor can: without bf16 it would imitate it, ten times slower.
    The curves hold no test score, and not `scored` none of validation that counts: a sample of those images will do.
    """
    config = runs.resolve(record["config"])  # options that are younger than the record are at their defaults
    precision = {} if record["provenance"]["bf16"] else {"precision": "fp32"}
    stage = configuration.Stage.of(config["stages"][0] | precision, "stage")
    split = runs.datasets.load(config["data"])
    few = ("test",) if scored else ("test", "validation")
    split = dataclasses.replace(split, **{name: sample(getattr(split, name)) for name in few})
    execution.seed_stage(config["seed"], 0)
    model = execution.started(config["model"], stage, {}, "cpu")
    return execution.train_stage(model, split, stage, seed=config["seed"], until=steps)[0]["curves"]


def sample(part, most=500):
    """At most so many examples of a part of a data set, spread over all of it."""
    every = math.ceil(len(part.x) / most)
    return type(part)(*(tensor[::every] for tensor in part))


def replayed(record, steps):
    """The curves of `replay`, one for every order in which the record's own processor may have multiplied.

    Two processors of one name differ: those without bf16 had AVX2; of those with it some had AVX512-BF16, others AMX
    tiles too. oneDNN can be told to keep to either before it starts, in a process of its own, and gives the recorded
    digits. Elsewhere no digits are compared, and this process trains as fast as it can.
    """
    tiles = getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16", False)
    elsewhere = record["provenance"]["device"] != provenance.processor()
    if elsewhere or (record["provenance"]["bf16"] and not tiles):
        yield replay(record, steps)
        return
    command, given = [sys.executable, "-c", REPLAY], json.dumps([record, steps])
    for kept_to in ("AVX512_CORE_BF16", "AVX512_CORE_AMX") if record["provenance"]["bf16"] else ("AVX2",):
        environment = os.environ | {"ONEDNN_MAX_CPU_ISA": kept_to}
        yield json.loads(subprocess.check_output(command, input=given, text=True, env=environment, cwd=ROOT))


def recorded():
    """The records to prove: the "light" ones by every `make test`, the "heavy" ones by `make attack`."""
    found = list(cheapest())
    return {"light": [r for r in found if not heavy(r)], "heavy": [r for r in found if heavy(r)]}


def prove(record):
    """Train a record up to its first log point: its loss is within 5 %; its score within 2 points, where they compare.

    test_runs.py says where they do.
    """
    noted, score = record["rows"][0]["curves"], None
    for curves in replayed(record, noted["step"][0]):
        assert curves["step"][0] == noted["step"][0]
        assert curves["loss"][0] == pytest.approx(noted["loss"][0], rel=0.05)
        score = curves["validation"][0]
        if score == pytest.approx(noted["validation"][0], abs=0.02):
            return
    if record["provenance"]["device"] == provenance.processor():
        assert score == pytest.approx(noted["validation"][0], abs=0.02)


def note():
    """Write the losses of the heavy records' first steps, as the sources of today train them."""
    noted = {}
    for record in recorded()["heavy"]:
        row = record["rows"][0]
        steps = min(FIRST, math.ceil(SECONDS * row["steps"] / row["train_s"]))
        (loss,) = replay(record, steps, scored=False)["loss"]
        noted[record["experiment"]] = {"id": record["id"], "steps": steps, "loss": round(loss, 5)}
    BEGINNINGS.write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    note()
