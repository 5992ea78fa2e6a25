"""The files of a data set: where they are, whether they are whole, and how they are read, or fetched before."""

import hashlib
import io
import shlex
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..atomic import read_file
from ..checks import needing
from .sources import SUMS

UNPACKED = 2**30  # bytes; no set here unpacks to a third of it


class DataError(ValueError):
    """A data set that cannot be had as asked; the message says what to do."""


class File(NamedTuple):
    """A file of the data set `name`, at `path` below the folder `root`."""

    name: str
    root: Path
    path: str
    payload: bytes = b""


def folder(root):
    """Make a path of `root`, with `~` as the home that it stands for. DataError: no such user has one."""
    try:
        return Path(root).expanduser()
    except RuntimeError:
        raise DataError(f"root={str(root)!r}: there is no such user's home; pass the whole path") from None


def missing(paths, root):
    """List those of `paths` that the folder `root` lacks. DataError: a folder without permission hides that."""
    return [path for path in paths if not _there(folder(root) / path)]


def _there(path):
    try:
        path.stat()
    except PermissionError as error:
        remedy = "Make the folders on its way readable, or pass another folder as root=."
        raise DataError(f"{path} cannot be looked for: {error.strerror}. {remedy}") from None
    except OSError:
        return False
    return True


def command(name, root):
    """Spell the command that fetches the data set `name` into the folder `root`."""
    return f"`python -m {__package__} {name} --root {shlex.quote(str(root))}`"


def lacking(name, path, root, why):
    """Make the error that says that, and why, the folder `root` lacks a file, and how it comes there."""
    remedy = f"With a network, {command(name, root)} fetches it; or pass the folder that has it as root=."
    file = folder(root) / path
    links = [str(place) for place in (file, *file.parents) if place.is_symlink() and not place.exists()]
    told = f" (the link {links[0]} leads nowhere)" if links else ""
    return DataError(f"{name}: {path} is not in {root}{told}, and {why}. {remedy}")


def check(path, payload):
    """Name the variant that the checksum of a file vouches for, or nothing where it is none that is known.

    A file with known checksums must have one of them. Only a zip file may differ: it carries a checksum of each of its
    members, and copies of one set are packed differently. ValueError, BadZipFile: the file is damaged.
    """
    known, zipped = SUMS.get(path, {}), path.endswith(".zip")
    digest = hashlib.new("sha256" if zipped else "md5", payload, usedforsecurity=False).hexdigest()
    if known and digest not in known and not zipped:
        raise ValueError(f"its md5 is {digest}, expected {' or '.join(known)}")
    if zipped and digest not in known:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > UNPACKED:
                raise ValueError(f"it would unpack to {size:,} bytes")
            if bad := archive.testzip():
                raise ValueError(f"its member {bad} has another checksum")
    return known.get(digest, "")


@contextmanager
def whole(file):
    """Turn whatever goes wrong inside, while `file` is read and decoded, into a DataError that names it."""
    try:
        yield
    except (DataError, MemoryError, ModuleNotFoundError):  # Pillow may be missing
        raise
    except Exception as error:  # zipfile, zlib, Pillow and NumPy have a dozen kinds for damaged bytes
        unread = isinstance(error, OSError) and error.strerror
        why = f"is damaged: it lacks {error}" if isinstance(error, KeyError) else f"is damaged: {error}"
        why = f"cannot be read: {unread}" if unread else why
        remedy = f"Delete it, then {command(file.name, file.root)} fetches it anew."
        raise DataError(f"{file.name}: {file.root / file.path} {why}. {remedy}") from None


def read(name, paths, *, root, download=True):
    """Read files of the data set `name`: a list of `File`, and the variant that their checksums vouch for.

    What the folder `root` lacks is downloaded. The variant is empty where a file has no known checksum.
    DataError: a file cannot be had, cannot be read, or is damaged.
    """
    root = folder(root)
    if absent := missing(paths, root):
        if not download:
            raise lacking(name, absent[0], root, "download=False forbids fetching it")
        with needing("data"):
            from .download import obtain  # here, for most sessions need neither pooch nor a network

        obtain(name, absent, root)
    found, variants = [], set()
    for path in paths:
        with whole(File(name, root, path)):
            found.append(File(name, root, path, read_file(root / path)))
            variants.add(check(path, found[-1].payload))
    return found, "" if "" in variants else ", ".join(sorted(variants - {"official"})) or "official"
