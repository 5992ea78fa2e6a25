"""What the tests of diverged runs share: a copy of the store in which a run of every experiment has diverged."""

import json
import random
import shutil
from pathlib import Path

import warm

from companion import runs

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "data" / "runs"


def victim(experiment, records, rng):
    """The record that is to have diverged: of a choice of settings the worst, so that the others stay chosen."""
    if experiment.endswith("_grid"):
        return min(records, key=lambda record: record["rows"][-1].get("validation_accuracy", 0))
    last = max(record["seed"] for record in records)  # not one of those that settings are chosen by
    return rng.choice([record for record in records if record["seed"] == last])


def cut(record, stages):
    """The record as it were if the run had diverged after so many stages."""
    lost = record["rows"][stages]
    lost = {"stage": lost["stage"], "status": "diverged", "message": "the loss is nan at step 3", "train_s": 0.1}
    lost |= {"steps": 3, "curves": {"step": [], "train_loss": [], "validation": []}}
    return record | {"rows": [*record["rows"][:stages], lost], "status": "diverged", "message": "the loss is nan"}


def store(folder, seed, pick=victim):
    """Copy the committed records to a folder; the names of the experiments of which a run has diverged there."""
    rng, hit = random.Random(seed), set()
    for path in sorted(RUNS.glob("*.jsonl")):
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        chosen = pick(path.stem, records, rng) if records[0]["config"]["kind"] == "chain" else None
        if chosen:
            hit.add(path.stem)
            stages = rng.choice([0, len(chosen["rows"]) - 1])
            records = [cut(record, stages) if record is chosen else record for record in records]
        for record in records:
            record.pop("sum", None)
        (folder / path.name).write_text("".join(runs.record_line(r) + "\n" for r in records), encoding="utf-8")
        if path.with_suffix("").is_dir():
            (folder / path.stem).symlink_to(path.with_suffix(""))
    shutil.copy(RUNS / runs.store.LISTED, folder)
    return hit


def render(notebook, folder, seed, pick=victim):
    """Render a notebook from such a store; what it printed, and the experiments of which a run has diverged."""
    records = folder / "runs"
    records.mkdir()
    hit = store(records, seed, pick)
    places = {"COMPANION_RUNS": str(records), "COMPANION_FIGURES": str(folder / "figures")}
    # the overview times the widths that the runs have left: without one of them it is another timing
    mode = "missing" if notebook.stem == "00_overview" else "never"
    places |= {"COMPANION_TRAIN": mode, "COMPANION_DOWNLOAD": "0", "COMPANION_COMMITTED": "0", "MPLBACKEND": "agg"}
    status, said = warm.tried(lambda: warm.notebook(notebook, {}, places), folder / "log", seconds=1200)
    assert status == 0, said[-3000:]
    return said, hit
