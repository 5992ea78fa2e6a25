"""Where the files of a data set are, and whether they are whole."""

import hashlib
import shlex
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lib.data.sources import MD5


class DataError(ValueError):
    """A data set that cannot be had as asked; the message says what to do."""


class File(NamedTuple):
    """A file of the data set `name`, at `path` below the folder `root`."""

    name: str
    root: Path
    path: str
    payload: bytes = b""


def missing(paths, root):
    """List those of `paths` that the folder `root` lacks."""
    return [path for path in paths if not (Path(root).expanduser() / path).is_file()]


def command(name, root):
    """Spell the command that fetches the data set `name` into the folder `root`."""
    return f"`python -m lib.data {name} --root {shlex.quote(str(root))}`"


def fetch(name, paths, root, *, download=True):
    """Download those of `paths`, files of the data set `name`, that the folder `root` lacks. DataError: why not."""
    root = Path(root).expanduser()
    if not (absent := missing(paths, root)):
        return
    if not download:
        remedy = f"With a network, {command(name, root)} fetches it; or pass the folder that has it as root=."
        raise DataError(f"{name}: {absent[0]} is not in {root}, and download=False forbids fetching it. {remedy}")
    from lib.data.download import obtain  # here, for most sessions need no download

    obtain(name, absent, root)


def read(name, paths, *, root, download=True):
    """Read files of the data set `name`: a list of `File`, and the variant that their checksums vouch for.

    What the folder `root` lacks is downloaded. The variant is empty where a file has no known checksum.
    DataError: a file cannot be had, cannot be read, or is damaged.
    """
    root = Path(root).expanduser()
    fetch(name, paths, root, download=download)
    found, variants = [], set()
    for path in paths:
        with whole(File(name, root, path)):
            payload = (root / path).read_bytes()
            variants.add(_variant(root / path, payload, MD5.get(path) or _recorded(root / path)))
        found.append(File(name, root, path, payload))
    return found, "" if "" in variants else min(variants)  # a named variant sorts before "official"


def _variant(file, payload, known):
    digest = hashlib.md5(payload, usedforsecurity=False).hexdigest()
    if known and digest not in known:
        raise ValueError(f"its md5 is {digest}, expected {' or '.join(known)}")
    return known.get(digest, "")


def _recorded(file):
    """The checksum that was noted when `file` came out of a verified archive: {md5: "official"} or {}."""
    notes = file.with_name("MD5SUMS")
    lines = (line.split() for line in notes.read_text("utf-8").splitlines()) if notes.is_file() else ()
    return {digest: "official" for digest, entry in lines if entry == file.name}


@contextmanager
def whole(file):
    """Turn whatever goes wrong inside, while `file` is read and decoded, into a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except (ValueError, OSError, EOFError, LookupError, SyntaxError, zlib.error, zipfile.BadZipFile) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        remedy = f"Delete it, then {command(file.name, file.root)} fetches it anew."
        raise DataError(f"{file.name}: {file.root / file.path} is damaged: {why}. {remedy}") from None
