import sys
from pathlib import Path

from companion import site

source, out = map(Path, sys.argv[1:3] if sys.argv[1:] else (site.SOURCE, site.OUT))
if failed := site.build(source, out):
    sys.exit(failed)
print(f"{out / 'index.html'}: open it in a browser, no server is needed")
