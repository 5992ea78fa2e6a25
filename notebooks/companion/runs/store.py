"""The store: one file a running or own record, one committed file an experiment; written whole or not at all."""

import io
import json
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
from filelock import FileLock

from companion.runs.configuration import UNHASHED, identity, resolve
from companion.settings import runs_folder
from lib.training import write_whole


class RunError(RuntimeError):
    """A run that cannot be had: no record where training is forbidden, or a record of another configuration."""

    def _render_traceback_(self):  # IPython's hook: one line in a notebook
        return [f"RunError: {self}"]


def live(config):
    """Where a run keeps its checkpoints; its record and its lock stand beside it."""
    return runs_folder() / "live" / config["experiment"] / identity(config)


def _parse(text, where):
    """A record, or None for one that was cut or damaged: then it counts as missing and is made again."""
    try:
        record = json.loads(text)
        record["id"], record["config"], record["rows"], record["status"]
    except (ValueError, KeyError, TypeError):
        print(f"{where}: not a whole record; it counts as missing")
        return None
    return record


@lru_cache(maxsize=64)
def _read_committed(path, stamp):
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    records = [_parse(line, f"{Path(path).name}, line {k}") for k, line in enumerate(lines, 1) if line.strip()]
    return {record["id"]: record for record in records if record}


def committed(experiment):
    """The committed records of an experiment by their ids."""
    path = runs_folder() / f"{experiment}.jsonl"
    return _read_committed(str(path), path.stat().st_mtime_ns) if path.exists() else {}


def find(config, *, fresh=False):
    """The finished record of a configuration, or None; RunError if the record is of another configuration."""
    config, key = resolve(config), identity(config)
    path = live(config).with_suffix(".json")
    record = _parse(path.read_text(encoding="utf-8"), path.name) if path.exists() else None
    if record is None and not fresh:
        record = committed(config["experiment"]).get(key)
    if record is None:
        return None
    wanted = {k: v for k, v in json.loads(json.dumps(config)).items() if k not in UNHASHED}
    for name, value in wanted.items():
        if (found := record["config"].get(name, value)) != value and not _only_new(found, value):
            raise RunError(
                f"record {key} of {config['experiment']} was made with {name} = {found!r}, now {value!r}: "
                "a default has changed; raise the experiment's `version`"
            )
    return record | {"case": config["case"]}


def _only_new(found, wanted):
    """Whether `wanted` differs only by keys that the record does not know yet, which are then at their defaults."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return all(key in wanted and _only_new(value, wanted[key]) for key, value in found.items())
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_only_new, found, wanted))
    return found == wanted


def arrays(record):
    """The small arrays that were kept beside a record, by "stage/name"; none is an empty dict."""
    name = Path(record["experiment"], f"{record['id']}.npz")
    for path in (runs_folder() / "live" / name, runs_folder() / name):
        if path.exists():
            with np.load(path) as kept:
                return dict(kept)
    return {}


def write_arrays(path, arrays):
    """Write a dict of tensors as a compressed .npz, whole or not at all."""
    content = io.BytesIO()
    np.savez_compressed(content, **{name: array.numpy() for name, array in arrays.items()})
    write(path, content.getvalue())


def write(path, content):
    """Write a file of text or bytes whole or not at all; RunError where that fails, nothing older being lost."""
    try:
        write_whole(path, content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise RunError(
            f"{path} could not be written ({error.strerror}); make room and run the same command again: "
            "records and checkpoints are kept"
        ) from None


def record_line(record):
    """A record as one line of JSON; what was measured is rounded, what was asked for is not."""
    measured = {key: _plain(record[key]) for key in ("rows", "wall_s")}
    return json.dumps(record | measured, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _plain(value):
    """Numbers to at most eight digits, and null for what JSON has no literal for."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value


def collect(configs):
    """Move the finished records of these configurations from the live store into the committed files, sorted."""
    by_experiment = {}
    for config in map(resolve, configs):
        if live(config).with_suffix(".json").exists() and (record := find(config)):
            by_experiment.setdefault(config["experiment"], {})[record["id"]] = record
    for experiment, found in by_experiment.items():
        path = runs_folder() / f"{experiment}.jsonl"
        with FileLock(runs_folder() / "live" / f"{experiment}.lock"):
            merged = committed(experiment) | {k: {n: v for n, v in r.items() if n != "case"} for k, r in found.items()}
            write(path, "".join(record_line(merged[key]) + "\n" for key in sorted(merged)))
        for key in found:
            if (beside := runs_folder() / "live" / experiment / f"{key}.npz").exists():
                path.with_suffix("").mkdir(exist_ok=True)
                beside.replace(path.with_suffix("") / beside.name)
            (runs_folder() / "live" / experiment / f"{key}.json").unlink(missing_ok=True)
