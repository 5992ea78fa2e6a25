"""A try in a process of its own that has everything imported already: a fork, which can be killed at any time."""

import functools
import io
import json
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def imported():
    """Train and draw a little here, so that all is imported that many a fork would import for itself, for seconds."""
    import chains
    import matplotlib.pyplot as plt
    from IPython.core.interactiveshell import InteractiveShell  # noqa: F401

    from companion import runs

    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, COMPANION_RUNS=folder):
        runs.run(chains.config(0))
    figure, _ = plt.subplots()
    for kind in ("svg", "png"):
        figure.savefig(io.BytesIO(), format=kind)
    plt.close(figure)


def bounded(seconds):
    """Kill this process, as soon as it has used so many of the processor's seconds."""

    def watch():
        while time.process_time() < seconds:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def tried(work, log, *, kill_after=None, kill_when=None, seconds=300):
    """Call `work()` in a fork; its exit status, negative for a signal, and what it printed to the file `log`.

    The status is 0, or 1 where it raised, whose type and message are then the last line. kill_after: seconds until
    kill -9; kill_when: what is true as soon as it is to come.
    """
    Path(log).write_bytes(b"")  # a kill may come before the child has opened it
    child = os.fork()
    if child == 0:
        _as_child(work, log)
    until = time.monotonic() + (seconds if kill_after is None else kill_after)
    while time.monotonic() < until and not (kill_when and kill_when()):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), Path(log).read_text(encoding="utf-8")
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), Path(log).read_text(encoding="utf-8")


def _as_child(work, log):
    """The fork: it prints to its log and never returns."""
    status = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.sys.stdout, os.sys.stderr = (open(k, "w", encoding="utf-8", closefd=False) for k in (1, 2))  # noqa: SIM115
        work()
        status = 0
    except BaseException as error:
        print(f"\n{type(error).__name__}: {error}")
    finally:
        os.sys.stdout.flush()
        os.sys.stderr.flush()
        os._exit(status)


def notebook(path, given, environment):
    """Run a notebook's cells here as papermill would, `given` injected below its parameters; the first error is raised.

    To be called in a fork: the working folder, the environment and IPython's shell are left changed.
    """
    from IPython.core.interactiveshell import InteractiveShell

    os.environ.update(environment)
    os.chdir(path.parent)
    shell = InteractiveShell.instance(history_load_length=0)
    shell.history_manager.enabled = False
    shell.display_pub.publish = shown
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        sources = ["".join(cell["source"])]
        if "parameters" in cell["metadata"].get("tags", []) and given:
            sources.append("# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in given.items()))
        for source in sources:
            done = shell.run_cell(source, store_history=True)
            done.raise_error()


def shown(data, *_, **__):
    """Print what a page would show of something displayed, as far as it is text."""
    print(data.get("text/markdown") or data.get("text/html") or data.get("text/plain"))
