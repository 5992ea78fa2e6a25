"""Missing files, fetched from their official sources: whole or not at all."""

import hashlib
import os
import secrets
import sys
import tarfile
import time
import zlib
from contextlib import contextmanager, suppress
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from lib.data.files import DataError, command
from lib.data.sources import ARCHIVES, PATHS, SUMS, URLS

TRIES, PAUSE, TIMEOUT = 4, 1.0, 30  # seconds; the pause doubles from try to try
TRANSIENT = (TimeoutError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError, HTTPException)


def obtain(name, paths, root):
    """Fetch `paths`, files of data set `name`, into the folder `root`. DataError: how else they come."""
    remedy = f"With a network, {command(name, root)} fetches it; or pass the folder that has it as root=."
    for path in paths:
        prefix = max((p for p in URLS if path.startswith(p)), key=len)
        try:
            if prefix in ARCHIVES:
                return _obtain_archive(ARCHIVES[prefix], URLS[prefix], PATHS[name], root)
            download([base + path.removeprefix(prefix) for base in URLS[prefix]], root / path, md5=SUMS.get(path))
        except (ConnectionError, tarfile.TarError, EOFError, KeyError, zlib.error) as error:
            raise DataError(f"{name}: {path} is not in {root}, and {error}. {remedy}") from None


def _obtain_archive(archive, bases, paths, root):
    """Fetch a tar archive and write exactly `paths` out of it."""
    file = _part(root / archive)  # a name of our own: another process may unpack and remove the same archive
    try:
        download([base + archive for base in bases], file, md5=SUMS.get(archive))
        with tarfile.open(file, "r:gz") as tar:
            payloads = {path: tar.extractfile(path).read() for path in paths}
    finally:
        file.unlink(missing_ok=True)
    for path, payload in payloads.items():
        _write(root / path, [payload])


def _md5(payload=b""):
    return hashlib.md5(payload, usedforsecurity=False)


def download(urls, target, *, md5=None):
    """Fetch the first of `urls` that gives the whole file into `target`; `md5` holds the accepted checksums.

    Transient failures are tried again after growing pauses; a refused connection or an unknown host is not.
    ConnectionError: no url gave it. DataError: it cannot be written.
    """
    problems = []
    for url in urls:
        for attempt in range(TRIES):
            time.sleep(PAUSE * 2 ** (attempt - 1) if attempt else 0)
            try:
                return _write(target, _stream(url, target.name, md5))
            except (OSError, HTTPException) as error:
                problem = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
            if not isinstance(problem, TRANSIENT) and getattr(problem, "code", 0) not in (408, 429, *range(500, 600)):
                break
        problems.append(f"{url} gives: {getattr(problem, 'strerror', None) or problem}")
    raise ConnectionError("; ".join(problems))


def _stream(url, title, md5):
    """Yield the bytes at `url` in chunks; an error at the end where they are too few or the wrong ones."""
    request, digest, got = Request(url, headers={"User-Agent": "compression-companion"}), _md5(), 0
    silent = not sys.stderr.isatty()
    with urlopen(request, timeout=TIMEOUT) as answer:
        size = int(answer.headers.get("Content-Length") or 0)
        with tqdm(total=size or None, desc=title, unit="B", unit_scale=True, disable=silent, leave=False) as bar:
            while chunk := answer.read(1 << 20):
                digest.update(chunk)
                got += bar.update(len(chunk)) or len(chunk)
                yield chunk
    if size and got != size:  # read(n) is silent about a connection that ends early
        raise ConnectionResetError(f"only {got} of {size} bytes")
    if md5 and digest.hexdigest() not in md5:
        raise ConnectionError(f"a file with md5 {digest.hexdigest()}, expected {' or '.join(md5)}")


def _write(target, chunks):
    """Write `chunks` to `target` in one step: until all are there, they are in a .part file of our own."""
    part = _part(target)
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for old in target.parent.glob(".*.part"):  # of a killed download; a live one has written within the hour
            with suppress(FileNotFoundError):
                if time.time() - old.stat().st_mtime > 3600:
                    old.unlink()
        part.touch(exist_ok=False)
    try:
        with open(part, "wb", buffering=0) as out:  # unbuffered: a full disk shows in write, not in close
            for chunk in chunks:
                rest = memoryview(chunk)
                with _writing(target):
                    while rest:
                        rest = rest[out.write(rest) :]
        with _writing(target):
            os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _part(target):
    return target.with_name(f".{target.name.strip('.')}.{os.getpid()}-{secrets.token_hex(4)}.part")


@contextmanager
def _writing(target):
    try:
        yield
    except OSError as error:
        remedy = "Make room there, or pass another folder as root=."
        raise DataError(f"cannot write {target}: {error.strerror}. {remedy}") from None
