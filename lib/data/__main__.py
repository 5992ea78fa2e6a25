"""`python -m lib.data [NAME ...] [--root FOLDER]`: fetch data sets and load each once; without a name, list them."""

import argparse
import sys

from .. import data
from .files import missing, read
from .sources import PATHS

parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
parser.add_argument("names", nargs="*", metavar="NAME")
parser.add_argument("--root", default="data", metavar="FOLDER", help="the folder of the data files; default: data")
asked = parser.parse_args()
try:
    if not asked.names:
        print(f"data folder: {asked.root}")
        for name in data.KNOWN:
            lacking, files = len(missing(PATHS.get(name, ()), asked.root)), len(PATHS.get(name, ()))
            within = "embedded" if name in data.EMBEDDED else "generated"
            state = f"{lacking} of {files} files missing" if lacking else "here" if files else within
            print(f"{name:32}{state}")
    for name in asked.names:
        read(name, PATHS.get(name, ()), root=asked.root)  # every split of a uci table
        print(data.load(name, root=asked.root))
except data.DataError as error:
    sys.exit(str(error))
