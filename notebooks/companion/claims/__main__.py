"""python -m companion.claims prints the table of verdicts."""

from companion import claims

print(claims.markdown(claims.overview()), end="")
