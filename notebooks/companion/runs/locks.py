"""What keeps a process from the store: the lock of another one, or a folder without permission."""

import contextlib
import errno
import os
import re
import socket
import time
from pathlib import Path

from filelock import FileLock, Timeout

from companion.settings import OneLine
from lib.atomic import read_file, write_whole

PATIENCE = 5  # seconds of silent waiting for a lock


class RunError(OneLine, RuntimeError):
    """A run that cannot be had: no record where training is forbidden, or a record of another configuration."""


@contextlib.contextmanager
def reaching():
    """Turn what a folder without permission, or a path too long, gives into a RunError that names it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG):
            raise
        raise RunError(
            f"{error.filename} cannot be reached ({error.strerror}); make its folder readable and writable, or name "
            "another by COMPANION_RUNS: finished records are kept"
        ) from None


@contextlib.contextmanager
def holding(path, what, *, wait=True):
    """Hold the lock of a path, and yield True; False where another process has it and wait is False.

    After a few seconds of waiting it is said who holds it, and since when.
    """
    lock, holder = FileLock(f"{path}.lock"), Path(f"{path}.holder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=PATIENCE if wait else 0)
        except Timeout:
            if not wait:
                yield False
                return
            print(f"waiting for {_held_by(holder)}, which is at work on {what}", flush=True)
            lock.acquire()
    except OSError as error:
        raise RunError(
            f"{path}.lock cannot be locked ({error.strerror}); remove it where it is no file of ours, make its folder "
            "writable, or name another by COMPANION_RUNS"
        ) from None
    try:
        with contextlib.suppress(OSError):
            since = time.strftime("%H:%M:%S")
            write_whole(holder, f"process {os.getpid()} on {socket.gethostname()}, since {since}")
        yield True
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _held_by(holder):
    """Who holds a lock, as the note beside it says; a note of a process that has ended speaks of no one."""
    try:
        told = read_file(holder).decode(errors="replace")
    except OSError:
        return "another process"
    named = re.match(r"process (\d{1,9}) on (.+), since ", told)
    gone = named and named[2] == socket.gethostname() and not _alive(int(named[1]))
    return "another process" if gone or not named else told


def _alive(process):
    """Whether a process of this host is there; true where that cannot be asked."""
    with contextlib.suppress(PermissionError):
        try:
            os.name == "posix" and os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True
