"""Files that are written whole or not at all."""

import contextlib
import os
from pathlib import Path


def write_whole(path, content):
    """Write text or bytes beside a path, then rename: a kill or a full disk meanwhile leaves the old file whole.

    OSError: it names the path.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
