"""Run the Snakefile, one at a time in a checkout: the lock ends with this process, even by kill -9.

python -m companion.workflow.launch CORES [profile=laptop] [fresh=1] ["only=01*"] -- [options of Snakemake's]
"""

import contextlib
import logging
import os
import re
import socket
import sys
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout
from snakemake.cli import main

from companion.settings import ROOT, changes
from companion.workflow import served
from lib.atomic import write_whole

RUNNING = ROOT / "logs" / "running"


def progress_and_errors(record):
    """A filter for Snakemake's log: the notebooks' own lines say the rest."""
    event = getattr(getattr(record, "event", None), "name", "")
    return event == "PROGRESS" or (record.levelno >= logging.WARNING and event != "JOB_ERROR")


def run(cores, config, options):
    """Snakemake with what a kill leaves behind in mind: its own lock would stay, so ours takes its place."""
    command = ["--cores", cores, "--nolock", "--rerun-incomplete", "--keep-going"]
    command += [] if "fresh=1" in config else ["--forcerun", "render"]  # which trains all, where all is made afresh
    if not options:
        logging.getLogger("snakemake.logging").addFilter(progress_and_errors)
    renders = not options and not trains(config) and not any(entry.startswith("sweep=") for entry in config)
    with served.kernels() if renders else contextlib.nullcontext() as folder:  # what trains long has its own process
        if folder:
            os.environ["COMPANION_KERNELS"] = str(folder)
        try:
            main([*command, *(["--config", *config] if config else []), *options])
        except SystemExit as end:
            if not end.code and "fresh=1" in config:
                forget(config)
            raise


def forget(config):
    """Take away what says that notebooks are made afresh, once all are: the same command makes them anew."""
    asked = dict(entry.split("=", 1) for entry in config)
    for done in Path("logs").glob(f"{asked.get('profile', '*')}-fresh/{asked.get('only', '*')}/figures.done"):
        done.unlink(missing_ok=True)


def trains(config):
    """Whether the profile is one whose records are kept."""
    return not {"profile=laptop", "profile=paper"}.isdisjoint(config)


def warn_of_changes(config):
    """Whoever trains with changed sources learns it before the training, not from `make test` after it."""
    if trains(config) and changes("lib", "notebooks/companion"):
        print("the sources have changes that are not committed: records made now say so, and `make test` takes none")


def prepare():
    """What Snakemake and Jupyter take for granted: this environment's programs, a home, sources not of tomorrow."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ["COMPANION_LAUNCHER"] = f"{socket.gethostname()}:{os.getpid()}"
    if not os.access(Path.home(), os.W_OK):
        os.environ["HOME"] = tempfile.mkdtemp(prefix="companion-home-")
    now = time.time()
    for path in [*Path("lib").rglob("*.py"), *Path("notebooks").rglob("*.*")]:
        # Snakemake would find what is made now older than its sources; an editor's lock is a link to nowhere
        if path.is_file() and path.stat().st_mtime > now:
            os.utime(path, (now, now))


def launch(cores, config, options):
    """Run the Snakefile, with every failure that is not a notebook's own in one line."""
    if cores != "all" and not re.fullmatch("[1-9][0-9]*", cores):
        sys.exit(f"CORES={cores} is no number of cores; give a whole number from 1 on, or all")
    try:
        prepare()
        RUNNING.parent.mkdir(exist_ok=True)
        with FileLock(f"{RUNNING}.lock", timeout=0):
            write_whole(RUNNING, str(os.getpid()))
            warn_of_changes(config)
            run(cores, config, options)
    except Timeout:
        with contextlib.suppress(OSError):  # it may not have come to writing it
            sys.exit(f"another `make figures` (process {RUNNING.read_text()}) is at work here: wait for it, or end it")
        sys.exit("another `make figures` is at work here: wait for it, or end it")
    except OSError as error:
        where = error.filename or ROOT
        sys.exit(f"{where} cannot be written ({error.strerror}): `make figures` keeps logs and figures here")
    except (KeyboardInterrupt, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "event loop" not in str(error):  # Snakemake's, of an interrupt
            raise
        sys.exit("interrupted; what has been trained is kept, and the same command goes on")


if __name__ == "__main__":
    if "--" not in sys.argv[2:]:
        sys.exit(__doc__)
    os.chdir(ROOT)
    cut = sys.argv.index("--")
    launch(sys.argv[1], sys.argv[2:cut], sys.argv[cut + 1 :])
