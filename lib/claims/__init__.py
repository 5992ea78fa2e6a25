"""The papers' claims, each with a rule in numbers that was written before the records that it judges.

A rule reads tables (see `lib.runs.frame`) and returns a verdict and the evidence for it in words.
"""

import pandas as pd

from lib.claims import companion, p1, p2, p3
from lib.claims.rules import NOT, NOT_RUN, PARTLY, REPRODUCED, Claim, chosen, paired

__all__ = ["CLAIMS", "NOT", "NOT_RUN", "PARTLY", "REPRODUCED", "Claim", "chosen", "markdown", "overview", "paired"]

PAPERS = {"P1": "arXiv 2009.01395", "P2": "arXiv 2109.05075", "P3": "arXiv 2012.03827"}
CLAIMS = p1.CLAIMS | p2.CLAIMS | p3.CLAIMS | companion.CLAIMS


def overview():
    """A table of all claims with the verdicts that the committed records give."""
    lines = []
    for name, claim in CLAIMS.items():
        verdict, evidence = claim.verdict(claim.committed())
        source = PAPERS.get(claim.paper, claim.where)
        lines.append({"claim": name, "says": claim.says, "source": source, "verdict": verdict, "evidence": evidence})
    return pd.DataFrame(lines)


def markdown():
    """The table of claims and verdicts as README.md shows it."""
    lines = ["| claim | source | verdict | evidence |", "|---|---|---|---|"]
    for line in overview().itertuples():
        lines.append(f"| **{line.claim}** {line.says} | {line.source} | {line.verdict} | {line.evidence} |")
    return "\n".join(lines) + "\n"
