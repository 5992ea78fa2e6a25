"""`python -m lib.data [NAME ...]`: fetch data sets and load each once; without a name, list them."""

import sys

from lib import data
from lib.data.files import folder, missing, obtain
from lib.data.sources import PATHS

if len(sys.argv) == 1:
    print(f"data folder: {folder()}")
    for name in data.KNOWN:
        lacking, files = len(missing(PATHS.get(name, ()))), len(PATHS.get(name, ()))
        state = f"{lacking} of {files} files missing" if lacking else "here" if files else "embedded"
        print(f"{name:32}{state}")
try:
    for name in sys.argv[1:]:
        obtain(name, missing(PATHS.get(name, ())), folder())  # every split of a uci table
        print(data.load(name))
except data.DataError as error:
    sys.exit(str(error))
