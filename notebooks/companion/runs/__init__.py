"""One configuration in, one record out: hash, store, resume, provenance.

A chain is one run: its stages (train, prune, fine-tune, …) each give a row, and nothing is trained twice. A run that
is under way keeps its checkpoints, and a finished one its record, in ``data/runs/live/``; `collect` moves records to
the committed ``data/runs/<experiment>.jsonl``.
"""

import shutil

import pandas as pd
from filelock import FileLock, Timeout

from companion import parameters, settings
from companion.runs.configuration import identity, resolve
from companion.runs.execution import execute, interleaved, own, pinned, replay
from companion.runs.store import RunError, arrays, collect, committed, find, live, record_line, write
from lib import training

__all__ = [
    "RunError",
    "arrays",
    "collect",
    "committed",
    "find",
    "frame",
    "identity",
    "interleaved",
    "mean_std",
    "not_run",
    "own",
    "pinned",
    "replay",
    "resolve",
    "run",
    "run_all",
    "run_parts",
    "step_times",
]


def run(config, *, wait=True):
    """The record of a configuration: found, or trained now.

    One process trains it; others wait for it, or return None with wait=False.
    """
    mode, config = settings.train(), resolve(config)
    if record := find(config, fresh=mode == "fresh"):
        return record
    folder = live(config)
    if mode == "never":
        raise RunError(
            f"no record of {config['case'] or identity(config)} (seed {config['seed']}) in {config['experiment']}, "
            "and COMPANION_TRAIN=never forbids training; unset it, or run `make figures PROFILE=laptop`"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock", timeout=-1 if wait else 0):
            if not find(config, fresh=mode == "fresh"):
                write(folder.with_suffix(".json"), record_line(execute(config, folder)))
                shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return None
    return find(config, fresh=mode == "fresh")  # as it was written, so that a render sees the same digits


def run_all(configs):
    """The records of many configurations in their order, with a progress bar over those that have to be trained.

    Processes that are given the same list share the work: what another one trains is left to it and waited for last.
    """
    fresh = settings.train() == "fresh"
    records = [find(config, fresh=fresh) for config in configs]
    for wait in (False, True):
        missing = [k for k, record in enumerate(records) if record is None]
        for k in training.progress(missing, desc="runs") if missing else ():
            records[k] = run(configs[k], wait=wait)
    return records


def not_run(configs, *, go_on=False):
    """Whether some of these have no record yet and training is forbidden: it is said, and later cells are left out.

    An experiment that is still to be run, or under way (its records still live ones), is not an error; a committed
    one that has lost a record is. go_on: the notebook has something to show without them.
    """
    if settings.train() != "never":
        return False
    configs = [resolve(config) for config in configs]
    missing = [config["experiment"] for config in configs if not find(config)]
    if not missing or any(map(committed, missing)):
        return False
    names = ", ".join(sorted(set(missing)))
    wanted = sum(config["experiment"] in missing for config in configs)
    found = wanted - len(missing)
    what = f"{found} of {wanted} runs of {names} have a record" if found else f"there is no record of {names} yet"
    print(f"NOT RUN: {what}. `make figures PROFILE=…` trains what is missing")
    if not go_on:
        parameters.skip_the_rest()
    return True


def run_parts(setup, *, train=(), timing=()):
    """The records of a notebook's training and timing runs, as (train, timing).

    A shard makes only its part, and the cells after it are left out. A whole call with the committed parameters
    collects what is new into the committed records.
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


def frame(records):
    """A table with one line per stage or timed variant: id, seed, the case's fields, then the row's, curves left out.

    A variant's name "GL / full / closed / step" becomes the columns penalty, extent, form and, where given, what.
    """
    lines = []
    for record in records:
        head = {"id": record["id"], "seed": record["seed"], **record.get("case", record["config"]["case"])}
        for row in record["rows"]:
            names = zip(("penalty", "extent", "form", "what"), row.get("variant", "").split(" / "), strict=False)
            fields = dict(names) if "variant" in row else {}
            lines.append(head | {"run": record["status"]} | fields | {k: v for k, v in row.items() if k != "curves"})
    return pd.DataFrame(lines)


def mean_std(values, *, digits=2, scale=1):
    """The mean of a column ± its standard deviation, as text; scale=100 for per cent."""
    spread = f" ± {scale * values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * values.mean():.{digits}f}{spread}"


def step_times(table):
    """Timed variants as a reader wants them: steps per second, and the time of a step relative to the unpenalised one.

    `table` is a `frame` of timing records of one network or several, told apart by `network`. Ratios are paired by
    round: their median and quartiles.
    """
    return pd.concat([_relative(group) for _, group in table.groupby("network", sort=False)])


def _relative(group):
    rounds = pd.DataFrame(group["step_s"].tolist(), index=group.index).T  # a line per round, a column per variant
    ratios = rounds.div(rounds[group.index[group["penalty"] == "none"][0]], axis=0)
    low, high = (ratios.quantile(q).map("{:.3f}".format) for q in (0.25, 0.75))
    found = {
        "steps/s": (1 / rounds.median()).map("{:.0f}".format),
        "time / unpenalised": ratios.median().map("{:.3f}".format),
    }
    return group[["network", "penalty", "extent", "form"]].assign(**found, quartiles=low + " to " + high)
