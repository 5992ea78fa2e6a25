"""python -m companion.claims prints the table of verdicts."""

import sys

from companion import claims

if sys.argv[1:]:
    sys.exit(f"python -m companion.claims takes no argument, got {sys.argv[1]!r}; claims.card(name, records) shows one")
print(claims.markdown(claims.overview()), end="")
