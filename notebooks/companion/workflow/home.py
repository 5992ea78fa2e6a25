"""Take the finished runs of another machine into this store: `make figures PROFILE=…` then finds and collects them.

python -m companion.workflow.home FOLDER        FOLDER: the other machine's data/runs, copied here
"""

import sys
from pathlib import Path

from companion.runs.configuration import identity
from companion.runs.store import committed, parse
from companion.settings import runs_folder
from companion.workflow import in_one_line
from lib.atomic import write_whole


@in_one_line()
def take_home(folder):
    """Copy whole records, and the arrays beside them, into the live store; returns how many were new."""
    if not (live := Path(folder, "live")).is_dir():
        sys.exit("give the folder data/runs of the other machine, with its `live` in it")
    new, experiments = 0, [path for path in sorted(live.iterdir()) if path.is_dir()]
    for path in (path for experiment in experiments for path in sorted(experiment.iterdir())):
        if path.suffix != ".json" or not path.is_file():
            continue
        record = parse(path.read_bytes(), path.name)
        target = runs_folder() / "live" / path.parent.name / path.name
        if record is None or target.exists():
            continue
        if path.stem in committed(path.parent.name):
            print(f"{path}: there is a committed record of this run, which stays")
            continue
        if not _named(record) == record["id"] == path.stem or record["experiment"] != path.parent.name:
            print(f"{path}: not the record of its name; it stays where it is")
            continue
        for name in (path.with_suffix(".npz"), path):  # the record last: what has one is complete
            if name.exists():
                write_whole(target.with_name(name.name), name.read_bytes())
        new += 1
    return new


def _named(record):
    """The id of a record's configuration; None for one that this checkout does not know, of another version, say."""
    try:
        return identity(record["config"])
    except ValueError:
        return None


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{take_home(sys.argv[1])} new records in {runs_folder() / 'live'}")
