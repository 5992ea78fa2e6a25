"""A rule on a made-up table, as a claim applies it: what it lacks is said, not raised."""

from companion import claims
from companion.claims import rules


def judged(judge, table, monkeypatch):
    """The verdict of a claim with this rule on a table, and its evidence."""
    monkeypatch.setattr(rules.runs, "frame", lambda records: table)
    return claims.Claim("P1", "", "", "", (), "", judge).verdict([{}])
