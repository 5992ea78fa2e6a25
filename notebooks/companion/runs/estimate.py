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


def pace(experiment):
    """Seconds per example of an experiment's recorded chains, their median; None where it has no such record."""
    trained = [(record["wall_s"], examples(record["config"])) for record in committed(experiment).values()]
    return statistics.median([wall / n for wall, n in trained if n] or [0]) or None


def words(these):
    """A sentence on the time that these runs will take, None where that is short."""
    known, unknown, seconds = 0, 0, 0.0
    paces = {name: pace(name) for name in {run.config["experiment"] for run in these}}
    for run in these:
        if speed := paces[run.config["experiment"]]:
            known, seconds = known + 1, seconds + speed * examples(run.config)
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
