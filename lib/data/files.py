"""Where the files of a data set are, and whether they are whole."""

import hashlib
import os
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

from lib.data.download import DataError, obtain
from lib.data.sources import MD5


def folder(root=None):
    """The data folder: `root`, else the environment's COMPANION_DATA, else `data/` beside `lib`."""
    return Path(root or os.environ.get("COMPANION_DATA") or Path(__file__).parents[2] / "data").expanduser()


def missing(paths, root=None):
    """Those of `paths` (below the data folder) that are not there."""
    return [path for path in paths if not (folder(root) / path).is_file()]


def read(name, paths, root=None):
    """Files of the data set `name` as (Path, bytes) pairs, and the variant that their checksums vouch for.

    What is missing is downloaded. The variant is empty where a file has no known checksum.
    DataError: a file cannot be had, cannot be read, or is damaged.
    """
    if absent := missing(paths, root):
        obtain(name, absent, folder(root))
    found, variants = [], set()
    for path in paths:
        file = folder(root) / path
        with whole(name, file):
            payload = file.read_bytes()
            variants.add(_variant(file, payload, MD5.get(path) or _recorded(file)))
        found.append((file, payload))
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
def whole(name, file):
    """Turn whatever goes wrong inside, while `file` is read and decoded, into a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except (ValueError, OSError, EOFError, LookupError, SyntaxError, zlib.error, zipfile.BadZipFile) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        remedy = f"Delete it, then `python -m lib.data {name}` fetches it anew."
        raise DataError(f"{name}: {file} is damaged: {why}. {remedy}") from None
