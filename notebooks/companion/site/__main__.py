import contextlib
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from companion import site

if len(sys.argv) not in (1, 3):
    sys.exit("python -m companion.site [FOLDER_OF_PAGES FOLDER_OF_THE_SITE]: give both folders or none")
source, out = map(Path, sys.argv[1:] or (site.SOURCE, site.OUT))
try:
    source.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{source}.lock", timeout=0) as lock:
        try:
            failed = site.build(source, out)
        finally:
            with contextlib.suppress(OSError):  # Windows keeps what is open
                Path(lock.lock_file).unlink()
    if failed:
        sys.exit(f"{out} is left as it was: what hindered Sphinx stands above")
except Timeout:
    sys.exit(f"{out}: another `make site` is at work on it; wait for it, or end it")
except ValueError as error:
    sys.exit(f"{out} is left as it was: {error}")
except OSError as error:
    where = error.filename2 or error.filename or source
    sys.exit(f"{out} is left as it was: {where} cannot be written ({error.strerror}); make room, or name other folders")
print(f"{out / 'index.html'}: open it in a browser, no server is needed")
