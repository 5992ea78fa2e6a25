"""The claims in plain words for README, which stand in plain.toml."""

from functools import cache

from companion.claims import written


@cache
def told():
    """By claim: `says`, in plain words, and where something was found the `verdict` that the `finding` speaks of."""
    return written.table("plain")


def words(claim, says, verdict):
    """A claim in plain words, its own where there are none, and the finding where it speaks of this verdict."""
    plain = told().get(claim, {})
    return plain.get("says", says), plain.get("finding", "") if plain.get("verdict") == verdict else ""
