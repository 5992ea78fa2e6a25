"""The store: a file for each run that is under way or just finished, a committed file for each experiment."""

import contextlib
import hashlib
import io
import json
import math
import os
import re
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np

from companion import settings
from companion.runs.configuration import UNHASHED, Run
from companion.runs.locks import RunError, holding, reaching
from companion.runs.provenance import IMPORTED
from lib.atomic import write_whole

SUMMED = re.compile(r'\{"sum": "([0-9a-f]{16})", ')
REMEDY = "take it from git, or remove the record that it belongs to and train again"
LISTED = "arrays.sha256"  # beside the committed records
STATUSES = ("done", "diverged")


# --- a record as a line -----------------------------------------------------------------------------------------------


def record_line(record):
    """A record as one line of JSON that begins with a checksum of the rest; only what was measured is rounded."""
    measured = {key: _plain(record[key]) for key in ("rows", "wall_s")}
    text = json.dumps(record | measured, sort_keys=True, ensure_ascii=False, allow_nan=False)[1:]
    return f'{{"sum": "{_sum(text)}", {text}'


def _sum(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value):
    """Numbers to at most eight digits, and null for what JSON has no literal for."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value


def parse(content, where, *, summed=False):
    """A record from bytes, or None for one that was cut, damaged or changed: it counts as missing, and that is said.

    summed: it has to have a checksum, which some live ones of before lack.
    """
    try:
        text = content.decode().strip("\r\n")  # an editor's line ends change no digit
        record = json.loads(text)
        record["config"]["experiment"], STATUSES.index(record["status"])
        if not isinstance(record["id"], str) or not all(isinstance(row, dict) for row in record["rows"]):
            raise ValueError("it has no name, or rows that are none")
        found = SUMMED.match(text)
        if found[1] != _sum(text[found.end() :]) if found else summed:
            raise ValueError("it does not fit its checksum")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = "it does not fit its checksum" if "checksum" in str(error) else "not a whole record"
        print(f"{where}: {why}; it counts as missing")
        return None
    record.pop("sum", None)
    return record


# --- reading ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _read_committed(path, stamp):
    found, content = {}, _content(Path(path))
    if content is not None and not content.strip():
        print(f"{Path(path).name}: it is empty; its records count as missing")
    for k, line in enumerate((content or b"").split(b"\n"), 1):
        where = f"{Path(path).name}, line {k}"
        if not line.strip() or not (record := parse(line, where, summed=True)):
            continue
        if record["config"]["experiment"] != Path(path).stem:
            print(f"{where}: a record of {record['config']['experiment']}; it counts as missing")
        elif found.setdefault(record["id"], record) != record:
            print(f"{where}: another record of {record['id']}, which stands above; it counts as missing")
    return found


def _content(path):
    """The bytes of a file, None where there is none. One that cannot be read is named, and counts as missing."""
    try:
        if path.is_file():
            return path.read_bytes()
        why = "it is no file" if os.path.lexists(path) else ""
    except OSError as error:
        why = error.strerror
    if why:
        print(f"{path}: cannot be read ({why}); it counts as missing")
    return None


@reaching()
def committed(experiment):
    """The committed records of an experiment by their ids."""
    path = settings.runs_folder() / f"{experiment}.jsonl"
    stat = path.stat() if path.is_file() else None
    stamp = stat and (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)  # clocks may go backwards
    return _read_committed(str(path), stamp) if os.path.lexists(path) else {}


def live_record(run):
    """The record of a run that has not been collected, or None; where all is to be fresh, only one of these sources."""
    content = _content(run.record)
    record = None if content is None else parse(content, run.record.name)
    stale = record and _fresh() and record.get("provenance", {}).get("lib") != IMPORTED["lib"]
    return None if stale else record


def _fresh():
    return settings.train() == "fresh"


def find(config):
    """The finished record of a configuration, or None; RunError if the record is of another configuration.

    A committed one goes before a live one. Where all is to be trained afresh, the committed ones do not count.
    """
    run = Run.of(config)
    record = (None if _fresh() else committed(run.config["experiment"]).get(run.id)) or live_record(run)
    if record is None:
        return None
    wanted = {k: v for k, v in json.loads(json.dumps(run.config)).items() if k not in UNHASHED}
    for name, value in wanted.items():
        if (found := record["config"].get(name, value)) != value and not _only_new(found, value):
            raise RunError(
                f"record {run.id} of {run.config['experiment']} was made with {name} = {found!r}, now {value!r}: "
                "a default has changed; raise the experiment's `version`"
            )
    copied = json.loads(json.dumps(record))  # whoever changes it changes none that is found or collected later
    return copied | {"case": run.config["case"]}


def _only_new(found, wanted):
    """Whether `wanted` differs only by keys that the record does not know yet, which are then at their defaults."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return all(key in wanted and _only_new(value, wanted[key]) for key, value in found.items())
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_only_new, found, wanted))
    return found == wanted


@reaching()
def arrays(record):
    """The small arrays that were kept beside a record, by "stage/name"; none is an empty dict.

    RunError: the file is damaged, is not the record's, has no checksum, or is not there.
    """
    name = Path(record["experiment"], f"{record['id']}.npz")
    whole = record.get("provenance", {}).get("arrays") or _listed(name.as_posix())
    places = (settings.runs_folder() / "live" / name, settings.runs_folder() / name)
    found = [(path, path.read_bytes()) for path in places if path.is_file()]
    for path, content in found:  # the live one may be of a training that goes on, or was killed
        if whole == hashlib.sha256(content).hexdigest():
            try:
                with np.load(io.BytesIO(content)) as kept:
                    return dict(kept)
            except Exception as error:  # zipfile, zlib and NumPy have a dozen kinds
                raise RunError(f"{path} is damaged ({type(error).__name__}: {error}); {REMEDY}") from None
    if found:
        why = f"not as record {record['id']} was made with it" if whole else f"{LISTED} has no checksum of it"
        raise RunError(f"{found[-1][0]} is damaged: {why}; {REMEDY}")
    stages = record["config"].get("stages") or ()
    keeps = any(stage.get("pictures") or (stage.get("dynamics") or {}).get("frames") for stage in stages)
    if record["status"] == "done" and keeps:
        raise RunError(f"{places[-1]} is missing; {REMEDY}")
    return {}


def _listed(name):
    """The sha256 of arrays whose record is older than checksums in it, as `sha256sum` lists it; None: it does not."""
    lines = (_content(settings.runs_folder() / LISTED) or b"").decode(errors="replace").splitlines()
    return {line[66:]: line[:64] for line in lines}.get(name)


# --- writing ----------------------------------------------------------------------------------------------------------


def write(path, content):
    """Write a file of text or bytes whole or not at all; RunError where that fails, nothing older being lost."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise RunError(
            f"{path} could not be written ({error.strerror}); make room, or set COMPANION_RUNS, and run the "
            "same command again: finished records are kept"
        ) from None


def write_arrays(path, arrays):
    """Write a dict of tensors as a compressed .npz, whole or not at all; returns its sha256."""
    content = io.BytesIO()
    np.savez_compressed(content, **{name: array.numpy() for name, array in arrays.items()})
    write(path, content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def sweep(run):
    """Remove what a kill has left of a run that has its record: its checkpoints, and files that were half written."""
    if run.record.is_file() and run.folder.is_dir():
        shutil.rmtree(run.folder, ignore_errors=True)
    _sweep_parts(run.folder.parent, run.id)


def _sweep_parts(folder, name):
    for part in folder.glob(f".{name}.*.part"):
        with contextlib.suppress(OSError):  # of another user, or none of ours
            part.unlink(missing_ok=True)


@reaching()
def collect(configs):
    """Move the finished records of these configurations from the live store into the committed files, sorted."""
    by_experiment = {}
    for run in map(Run.of, configs):
        if run.record.exists():
            by_experiment.setdefault(run.config["experiment"], []).append(run)
    for experiment, runs in by_experiment.items():
        with holding(settings.runs_folder() / "live" / experiment, f"the records of {experiment}"):
            _collect(experiment, runs)


def _collect(experiment, runs):
    """The same for one experiment, whose lock is held: another process may have collected some of them meanwhile."""
    found, known = {run.id: record for run in runs if (record := live_record(run))}, committed(experiment)
    if stays := [] if _fresh() else [key for key in found if known.get(key, found[key]) != found[key]]:
        found = {key: record for key, record in found.items() if key not in stays}
        remedy = "remove the live ones, or let FRESH=1 make all anew"
        print(f"{experiment}: the committed records stay, beside {len(stays)} live ones of the same runs; {remedy}")
    if not found:
        return
    path = settings.runs_folder() / f"{experiment}.jsonl"
    if (old := _content(path)) is None and os.path.lexists(path):
        raise RunError(f"{path} cannot be read, and new records would take its place; make it readable, or remove it")
    if old and len({line.strip() for line in old.split(b"\n")} - {b""}) > len(known):
        aside = path.with_suffix(".aside")
        write(aside, b"\n".join(part for part in (_content(aside), old) if part))
        print(f"{path.name} had lines that count as missing: it is kept as {experiment}.aside")
    merged = known | found
    write(path, "".join(record_line(merged[key]) + "\n" for key in sorted(merged)))
    _sweep_parts(path.parent, path.name)
    for run in runs:
        if run.id not in found:
            continue
        arrays = run.folder.with_suffix(".npz")
        if arrays.exists():
            write(path.with_suffix("") / arrays.name, arrays.read_bytes())
            arrays.unlink()
        run.record.unlink(missing_ok=True)
        sweep(run)
