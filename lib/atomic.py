"""Files that are written whole or not at all, and read where they are files."""

import contextlib
import errno
import os
from pathlib import Path


def write_whole(path, content):
    """Write text or bytes beside a path, then rename: a kill or a full disk meanwhile leaves the old file whole.

    A link stays one, and what it leads to is written; the new file has the old one's mode, and its owner where that may
    be given away. OSError: it names the path.
    """
    path = Path(path)
    if path.is_char_device() or path.is_block_device():  # root would put a file in its place
        raise OSError(errno.EINVAL, "it is a device", str(path))
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        if path.is_file():
            before = path.stat()
            part.chmod(before.st_mode & 0o777)
            if hasattr(os, "chown"):
                with contextlib.suppress(OSError):
                    os.chown(part, before.st_uid, before.st_gid)
        part.replace(path)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def read_file(path):
    """The bytes of a file. OSError: it names the path; a pipe or a device, which might never end, is not read."""
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return path.read_bytes()
