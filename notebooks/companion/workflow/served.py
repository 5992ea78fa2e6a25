"""Kernels, papermill and nbval as forks of one process that has imported what they import: ten seconds less a notebook.

`python served.py SOCKET` serves; `python -S served.py SOCKET FILE` is what Jupyter starts as the kernel: it asks the
server for a fork that reads that connection file, and lives as long as this fork does.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
IMPORTED = [
    "altair",
    "onnxruntime",
    "seaborn",
    "skimage.measure",
    "sklearn.datasets",
    "sklearn.metrics",
    "torch_pruning",
    "torchvision",
    "tqdm.auto",
    "nbval.plugin",
    "papermill",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "companion.runs",
    "companion.claims",
]  # and the modules of companion itself


def ask(address, what, *given):
    """The exit status of a fork of the server: it has this process's environment, folder and outputs.

    It ends with this process, and this one with its parent: nobody but that could end a kernel.
    """
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(address))
        asked = {"what": what, "given": list(map(str, given)), "environment": dict(os.environ), "cwd": os.getcwd()}
        socket.send_fds(line, [len(text := json.dumps(asked).encode()).to_bytes(4)], [1, 2])
        line.sendall(text)
        line.settimeout(1)
        while os.getppid() == parent > 1:  # 1: it had gone before this began
            with contextlib.suppress(TimeoutError):
                return int(line.recv(16) or 1)
    return 1


def serve(address):
    """Import, listen, and fork for whoever asks, until the process that started this has gone."""
    import importlib
    import signal

    import torch

    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # as every kernel has it
    own = sorted(path.stem for path in (ROOT / "notebooks" / "companion").glob("[a-z]*.py"))
    for name in [*IMPORTED, *(f"companion.{stem}" for stem in own)]:
        importlib.import_module(name)
    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listening, parent = socket.socket(socket.AF_UNIX), os.getppid()
    listening.bind(address + ".new")
    listening.listen()
    os.rename(address + ".new", address)
    listening.settimeout(1)
    while os.getppid() == parent:
        try:
            line, _ = listening.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            line.settimeout(None)
            as_asked(line)
        line.close()


def as_asked(line):
    """The fork: it does what was asked for and never returns; it ends with whoever asked."""
    length, outputs, *_ = socket.recv_fds(line, 4, 2)
    asked = json.loads(line.recv(int.from_bytes(length), socket.MSG_WAITALL))
    for number, output in zip((1, 2), outputs, strict=True):
        os.dup2(output, number)
    sys.stdout, sys.stderr = (open(k, "w", encoding="utf-8", closefd=False) for k in (1, 2))  # noqa: SIM115
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"])
    threading.Thread(target=lambda: line.recv(1) or os._exit(1), daemon=True).start()
    status = 1
    try:
        status = {"kernel": kernel, "pytest": tests, "run": notebook}[asked["what"]](*asked["given"])
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        line.sendall(str(int(status)).encode())
        os._exit(status)


def kernel(file):
    """An ipykernel for this connection file."""
    import pandas
    from ipykernel.kernelapp import IPKernelApp

    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    pandas.set_option("display.max_columns", 20)  # it was imported outside a kernel, where a terminal's width counts
    app = IPKernelApp.instance()
    app.log_connection_info = lambda: None  # it would tell the terminal how to end a kernel that nobody started by hand
    app.initialize(["-f", file])
    app.start()
    return 0


def tests(*given):
    """Pytest with these arguments."""
    import pytest

    return pytest.main(["-W", "ignore::pytest.PytestAssertRewriteWarning", *given])


def notebook(*given):
    """What `companion.workflow.run` does with these arguments."""
    from companion.workflow import run

    try:
        run.main(given)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return int(end.code is not None) if not isinstance(end.code, int) else end.code
    return 0


@contextlib.contextmanager
def kernels():
    """The folder of a server, which ends with the block; None but on Linux, where libraries take forks well."""
    if sys.platform != "linux":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="kernels") as folder:  # short: a socket's path has 100 characters at most
        try:
            process = started(Path(folder))
        except RuntimeError as error:
            print(f"{error}; every notebook imports for itself, which takes longer")
            yield None
            return
        try:
            yield Path(folder)
        finally:
            process.terminate()
            process.wait()


def started(folder):
    """Start a server with its socket in this folder, and a kernel called `served` beside; its process."""
    address = str(folder / "socket")
    (folder / "kernels" / "served").mkdir(parents=True)
    spec = {"argv": [sys.executable, "-S", __file__, address, "{connection_file}"], "language": "python"}
    (folder / "kernels" / "served" / "kernel.json").write_text(json.dumps(spec | {"display_name": "served"}))
    around = {name: value for name, value in os.environ.items() if not name.startswith(("COMPANION_", "PYTEST_"))}
    around["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # a fork cannot use a GPU that its parent has begun to use
    process = subprocess.Popen([sys.executable, __file__, address], cwd=ROOT, env=around)
    while not Path(address).exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise RuntimeError(f"the server of kernels ended with {process.wait(0.05)}")
    return process


if __name__ == "__main__" and len(sys.argv) == 2:
    serve(sys.argv[1])
elif __name__ == "__main__" and sys.argv[2:]:
    sys.exit(ask(sys.argv[1], "kernel", sys.argv[2]) if len(sys.argv) == 3 else ask(sys.argv[1], *sys.argv[2:]))
