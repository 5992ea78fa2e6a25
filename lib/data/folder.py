"""The files of a data set, read from the folder of the data files, and fetched where it lacks them."""

from pathlib import Path

from ..atomic import read_file
from ..checks import needing
from .files import File, check, lacking, missing, whole


def read(name, paths, *, root, download=True):
    """Read files of the data set `name`: a list of `File`, and the variant that their checksums vouch for.

    What the folder `root` lacks is downloaded. The variant is empty where a file has no known checksum.
    DataError: a file cannot be had, cannot be read, or is damaged.
    """
    root = Path(root).expanduser()
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
