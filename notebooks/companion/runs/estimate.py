"""How long runs without a record will take, by the pace of the recorded runs of their experiments."""

import os
import statistics
import sys

from companion.runs.store import committed

SAID = 60  # seconds of training from which a word is said
LONG = 20_000  # steps, where no recorded run tells the pace


def examples(config):
    """How many examples a chain trains on."""
    return sum(stage["steps"] * stage.get("batch", 128) for stage in config.get("stages") or ())


def pace(experiment, trains):
    """Seconds per example of an experiment's recorded chains, their median; None where it has no such record.

    trains: False for runs of a notebook's own code and for timings, of which it is seconds per run.
    """
    done = [(record["wall_s"], examples(record["config"])) for record in committed(experiment).values()]
    found = [wall / (n or 1) for wall, n in done if (n > 0) == trains]
    return statistics.median(found) if found else None


def words(these):
    """A sentence on the time that these runs will take, None where that is short."""
    known, unknown, seconds = 0, 0, 0.0
    kinds = [(run.config["experiment"], examples(run.config) > 0) for run in these]
    paces = {kind: pace(*kind) for kind in set(kinds)}
    for run, kind in zip(these, kinds, strict=True):
        if speed := paces[kind]:
            known, seconds = known + 1, seconds + speed * (examples(run.config) or 1)
        else:
            unknown += sum(stage["steps"] for stage in run.config.get("stages") or ())
    told = [f"about {seconds / 60:.0f} minutes for {known}, at the pace of the recorded runs"] if seconds > SAID else []
    told += [f"{unknown:,} training steps of which no recorded run tells the pace"] if unknown > LONG else []
    return f"{len(these)} runs have no record and are trained now: {'; '.join(told)}" if told else None


def tell(these):
    """Say it in the notebook, and on the terminal from which papermill, which shows no outputs there, was started."""
    if not (text := words(these)):
        return
    print(text, flush=True)
    terminal = getattr(sys.stderr, "_original_stdstream_copy", None)  # ipykernel's, kept by it for tracebacks
    if terminal is not None:
        os.write(terminal, f"{text}\n".encode())
