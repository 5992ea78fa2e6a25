import sys
from pathlib import Path

from companion import site

source, out = map(Path, sys.argv[1:3] if sys.argv[1:] else (site.SOURCE, site.OUT))
try:
    if site.build(source, out):
        sys.exit(f"{out} is left as it was: what hindered Sphinx stands above")
except OSError as error:
    where = error.filename2 or error.filename or source
    sys.exit(f"{out} is left as it was: {where} cannot be written ({error.strerror}); make room, or name other folders")
print(f"{out / 'index.html'}: open it in a browser, no server is needed")
