"""One configuration in, one record out: hash, store, resume, provenance.

A chain is one run: its stages (train, prune, fine-tune, …) each give a row, and nothing is trained twice. A run that
is under way keeps its checkpoints, and a finished one its record, in ``data/runs/live/``; `collect` moves records to
the committed ``data/runs/<experiment>.jsonl``.
"""

import threading

from companion import parameters, settings
from companion.runs import datasets, estimate
from companion.runs.configuration import Run, identity, resolve
from companion.runs.execution import execute
from companion.runs.locks import RunError, holding
from companion.runs.own import own
from companion.runs.rehearsal import rehearse
from companion.runs.store import arrays, collect, committed, find, record_line, sweep, write
from companion.runs.tables import finished, frame, markdown, mean_std, means, spent, step_times
from companion.runs.timing import interleaved, pinned
from lib import training

ONE = threading.RLock()  # threads share torch's random numbers: side by side they would draw each other's


def run(config, *, wait=True):
    """The record of a configuration: found, or trained now.

    One process trains it; others wait for it, or return None with wait=False. Threads of a process take turns.
    """
    this = Run.of(config)
    if record := find(this):
        return record
    if settings.train() == "never":
        raise RunError(
            f"no record of {this}, and COMPANION_TRAIN=never forbids training; unset it, or run "
            "`make figures PROFILE=laptop`"
        )
    with ONE:
        rehearse(this)
        with holding(this.folder, this, wait=wait) as held:
            if not held:
                return None
            if not find(this):
                write(this.record, record_line(execute(this)))
            sweep(this)
    record = find(this)  # as it was written, so that a render sees the same digits
    if this.config["kind"] != "own":
        datasets.tell_apart([record], here=datasets.load(this.config["data"]))
    return record


def run_all(configs):
    """The records of many configurations in their order, with a progress bar over those that have to be trained.

    Processes that are given the same list share the work: what another one trains is left to it and waited for last.
    """
    these = [Run.of(config) for config in configs]
    records = [find(this) for this in these]
    if settings.train() != "never":
        missing = [this for this, record in zip(these, records, strict=True) if record is None]
        for this in missing:  # the last of them might be wrong, and is told so before the first is trained
            rehearse(this)
        estimate.tell(missing)
    for wait in (False, True):
        missing = [k for k, record in enumerate(records) if record is None]
        for k in training.progress(missing, desc="runs", unit="run") if missing else ():
            records[k] = run(these[k], wait=wait)
    datasets.tell_apart(records)
    return records


def not_run(configs, *, go_on=False):
    """Whether some of these have no record yet and training is forbidden: it is said, and later cells are left out.

    An experiment that is still to be run, or under way (its records still live ones), is not an error; a committed
    one that has lost a record is. go_on: the notebook has something to show without them.
    """
    if settings.train() != "never":
        return False
    these = [Run.of(config) for config in configs]
    missing = [this.config["experiment"] for this in these if not find(this)]
    if not missing or any(map(committed, missing)):
        return False
    names = ", ".join(sorted(set(missing)))
    wanted = sum(this.config["experiment"] in missing for this in these)
    found = wanted - len(missing)
    what = f"{found} of {wanted} runs of {names} have a record" if found else f"there is no record of {names} yet"
    print(f"NOT RUN: {what}. `make figures PROFILE=…` trains what is missing")
    if not go_on:
        parameters.skip_the_rest()
    return True


def run_parts(setup, *, train=(), timing=()):
    """The records of a notebook's training and timing runs, as (train, timing).

    A shard makes only its part, and the cells after it are left out. A whole call that `make` or nbval starts
    with the committed parameters collects what is new into the committed records; another one, and every one at quick,
    writes its table, runs.csv, beside its figures.
    """
    if not_run([*train, *timing]):
        return [], []
    if setup.part != "all":
        run_all({"train": train, "timing": timing}[setup.part])
        parameters.skip_the_rest()
        return [], []
    records = run_all(list(train)), run_all(list(timing))
    if setup.default and setup.profile != "quick":
        collect([*train, *timing])
        return records
    records = tuple([record | {"parameters": setup.changed} for record in part] for part in records)
    write(setup.figures / "runs.csv", frame([*records[0], *records[1]]).to_csv(index=False))
    return records
