"""python -m lib.claims prints the table of verdicts."""

from lib import claims

print(claims.markdown(claims.overview()), end="")
