"""Missing files, fetched by pooch from their official sources: whole or not at all."""

import os
import shutil
import sys
import tarfile
from contextlib import contextmanager

import pooch
from filelock import FileLock, Timeout

from .files import DataError, check, lacking, missing
from .sources import ARCHIVES, SUMS, URLS

RETRIES = 2  # pooch pauses 1, then 2 seconds
PATIENCE = 3  # seconds of waiting for another process before a word is said


def obtain(name, paths, root):
    """Fetch those of `paths`, files of the data set `name`, that the folder `root` lacks. DataError: why it cannot.

    They are downloaded, unpacked and checked in the folder .download, which one process at a time has: what a killed
    one left there goes first, and a file moves to its place when it is whole.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _staging(root) as staging:
            while absent := missing(paths, root):
                for path in _fetched(name, absent, root, staging):
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(staging / path, root / path)
    except OSError as error:
        why = f"{error.strerror or error}. Make room there, or pass another folder as root=."
        raise DataError(f"{name}: cannot write {root / paths[0]}: {why}") from None


@contextmanager
def _staging(root):
    """Hold the folder .download of `root`, empty before and gone after; say so where another process has it."""
    lock, staging = FileLock(root / ".download.lock"), root / ".download"
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        print(f"waiting for another process that downloads into {root}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        if os.path.lexists(staging) and not staging.is_dir():  # rmtree waits for ever at a pipe
            staging.unlink()
        shutil.rmtree(staging, ignore_errors=True)
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        lock.release()


def _fetched(name, paths, root, staging):
    """Fetch the first of `paths` to below `staging`, and all that come in the same archive; list what came."""
    prefix, problems = max((p for p in URLS if paths[0].startswith(p)), key=len), []
    wanted = [p for p in paths if p.startswith(prefix)] if prefix in ARCHIVES else paths[:1]
    target = ARCHIVES.get(prefix, paths[0])
    for url in (base + target.removeprefix(prefix) for base in URLS[prefix]):
        try:
            _download(url, target, staging)
            if prefix in ARCHIVES:
                _unpack(staging / target, wanted, staging)
            for path in wanted:
                check(path, (staging / path).read_bytes())
            return wanted
        except Exception as error:  # requests, pooch, tarfile and zipfile have a dozen kinds
            if isinstance(error, OSError) and error.errno:  # the disk's; those of requests have none
                raise
            shutil.rmtree(staging, ignore_errors=True)
            problems.append(f"{url} gives: {_reason(error)}")
    raise lacking(name, paths[0], root, "; ".join(problems))


def _unpack(archive, paths, folder):
    """Write exactly `paths` out of a tar archive: nothing else, and nowhere else."""
    with tarfile.open(archive) as tar:
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(tar.extractfile(path).read())


def _download(url, target, staging):
    """Download `url` to `target` below `staging`, and compare it with its official checksum where there is one."""
    known = [checksum for checksum, variant in SUMS.get(target, {}).items() if variant == "official"]
    kind = "sha256" if target.endswith(".zip") else "md5"
    registry = {target: f"{kind}:{known[0]}" if known else None}
    pooch.get_logger().setLevel("WARNING")  # else it reports each of the 43 files of a table
    store = pooch.create(staging, base_url="", registry=registry, urls={target: url}, retry_if_failed=RETRIES)
    store.fetch(target, downloader=_get)


def _get(url, file, _):
    os.unlink(file)  # pooch made it for its owner alone; made anew it is as readable as any other
    asked = {"headers": {"Accept-Encoding": "identity"}, "hooks": {"response": _as_sent}}
    pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 20, **asked)(url, file, None)


def _as_sent(response, **_):
    """Keep a .gz file packed where the server calls that an encoding; what is not there needs no second try."""
    response.raw.headers.pop("Content-Encoding", None)
    if 400 <= response.status_code < 500 and response.status_code not in (408, 425, 429):
        raise ConnectionError(f"{response.status_code} {response.reason}")


def _reason(error):
    """Say what went wrong at the bottom: requests and urllib3 wrap a refused connection three times."""
    wraps = ("requests", "urllib3")
    while type(error).__module__.startswith(wraps) and error.__context__ and getattr(error, "response", None) is None:
        error = error.__context__
    return getattr(error, "strerror", None) or error
