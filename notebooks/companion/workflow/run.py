"""Run one notebook with parameters; on failure say which cell's error it was, and where the traceback is.

python -m companion.workflow.run notebooks/NN_name.ipynb EXECUTED.ipynb [--train never] [--threads 1] [name=value ...]
"""

import argparse
import ast
import contextlib
import os
import socket
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from companion.workflow import REMEDY, in_one_line, read_notebook, served
from lib.atomic import write_whole


def value(text):
    """A parameter's value: a Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("executed", type=Path)
    parser.add_argument("parameters", nargs="*", metavar="name=value")
    parser.add_argument("--train", choices=["never", "missing", "fresh"], default="missing")
    parser.add_argument(
        "--scratch", action="store_true", help="records of this call alone, thrown away: it really trains"
    )
    parser.add_argument(
        "--custom", action="store_true", help="figures and table below figures/custom, whatever is given"
    )
    parser.add_argument("--threads", type=int, help="threads of the numerical libraries; default: theirs")
    parser.add_argument("--offline", action="store_true", help="no downloads")
    given = parser.parse_intermixed_args(given)
    if bad := [p for p in given.parameters if not p.partition("=")[0].isidentifier() or "=" not in p]:
        parser.error(f"{bad[0]!r} is not of the form name=value")
    names = [p.partition("=")[0] for p in given.parameters]
    if twice := [name for name in names if names.count(name) > 1]:
        parser.error(f"{twice[0]} is given twice")
    if given.threads is not None and given.threads < 1:
        parser.error(f"--threads must be 1 at least, got {given.threads}")
    if given.executed.resolve() == given.source.resolve():
        parser.error(f"{given.source} would be written over; name another file for the executed notebook")
    return given


def settings(given):
    """The environment that the notebook's kernel inherits."""
    yield "COMPANION_TRAIN", given.train
    yield "TQDM_DISABLE", "1"
    committed = not given.custom and {p.partition("=")[0] for p in given.parameters} <= {"profile"}
    yield "COMPANION_COMMITTED", "1" if committed else "0"
    yield "COMPANION_NOTEBOOK", given.source.stem
    yield "JUPYTER_PREFER_ENV_PATH", "1"  # this environment's kernel, not a python3 of the user's
    yield "JUPYTER_PATH", os.environ.get("COMPANION_KERNELS", "")  # the kernel of a server, if there is one
    if given.offline:
        yield "COMPANION_DOWNLOAD", "0"
    if given.threads:
        for library in ("OMP", "MKL", "OPENBLAS"):
            yield f"{library}_NUM_THREADS", str(given.threads)


def end_with_launcher():
    """End when the `make figures` that started this was killed: nothing trains on behind the next one's back."""
    host, _, launcher = os.environ.get("COMPANION_LAUNCHER", "").partition(":")
    if os.name != "posix" or host != socket.gethostname():
        return

    def watch():
        while True:
            time.sleep(1)
            try:
                os.kill(int(launcher), 0)
            except OSError:
                os._exit(1)  # the kernel follows: it watches its parent

    threading.Thread(target=watch, daemon=True).start()


def divert(path):
    """Send what the kernel prints past the notebook to a file; return the terminal, as it was."""
    terminal = os.fdopen(os.dup(2), "w", errors="backslashreplace")  # no letter of an error ends it
    with path.open("w") as log:
        os.dup2(log.fileno(), 2)
    return terminal


@contextlib.contextmanager
def records_of(given):
    """Records of this call alone, thrown away at its end, where it asks for them."""
    if not given.scratch:
        yield
        return
    try:
        scratch = tempfile.TemporaryDirectory()
    except OSError as error:
        sys.exit(f"--scratch: {error.strerror}; let TMPDIR name a folder that can be written")
    with scratch:
        os.environ["COMPANION_RUNS"] = scratch.name
        yield


def main(given=None):
    given = arguments(given)
    os.environ.update(settings(given))
    end_with_launcher()
    with records_of(given):
        run(given)


def run(given):
    """Execute the notebook; end with 1 where that fails, and say why."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    with in_one_line():
        read_notebook(given.source)
        given.executed.parent.mkdir(parents=True, exist_ok=True)
    parameters = {name: value(text) for name, _, text in (p.partition("=") for p in given.parameters)}
    what = " ".join([given.source.stem, *given.parameters])
    kernel_log = given.executed.with_suffix(".stderr")
    with in_one_line():
        write_whole(given.executed, given.source.read_bytes())  # papermill would cut the older one where it has no room
        terminal, start = divert(kernel_log), time.monotonic()
    name = "served" if os.environ["JUPYTER_PATH"] else "python3"
    kernel = {"kernel_name": name, "language": "python", "progress_bar": False}
    kernel["cwd"] = str(given.source.parent)  # as in JupyterLab and nbval
    try:
        papermill.execute_notebook(str(given.source), str(given.executed), parameters, **kernel)
    except Exception as error:
        with contextlib.suppress(OSError):  # a full disk has no room for the log either
            traceback.print_exc()
        cause, where = f"{type(error).__name__}: {error}", kernel_log
        if isinstance(error, PapermillExecutionError):
            cause, where = f"{error.ename}: {error.evalue}", given.executed
        elif isinstance(error, OSError):
            cause = f"{error.filename or given.executed}: {error.strerror}; {REMEDY}"
        tail = "\n  ".join(cause.strip().splitlines()[-3:])
        print(f"FAILED: {what}\n  {tail}\n  traceback in {where}", file=terminal, flush=True)
        sys.exit(1)
    print(f"done in {time.monotonic() - start:.0f} s: {what}", flush=True)


if __name__ == "__main__":
    try:
        if folder := os.environ.get("COMPANION_KERNELS"):
            sys.exit(served.ask(Path(folder) / "socket", "run", *sys.argv[1:]))
    except OSError:  # the server has gone
        del os.environ["COMPANION_KERNELS"]
    main()
