"""The papers' claims, each with a rule in numbers that was written before the records that it judges.

A rule reads tables (see `companion.runs.frame`) and returns a verdict and the evidence for it in words.
"""

import pandas as pd

from companion.claims import budget, companion, p1, p2, p3
from companion.claims.rules import (
    INCONCLUSIVE,
    NOT,
    NOT_AS_STATED,
    NOT_JUDGED,
    NOT_RUN,
    PARTLY,
    REPRODUCED,
    Claim,
    chosen,
    paired,
)

__all__ = ["CLAIMS", "NOT", "NOT_RUN", "PARTLY", "REPRODUCED", "Claim", "chosen", "markdown", "overview", "paired"]
__all__ += ["INCONCLUSIVE", "NOT_AS_STATED", "NOT_JUDGED", "budget"]

PAPERS = {"P1": "arXiv 2009.01395", "P2": "arXiv 2109.05075", "P3": "arXiv 2012.03827"}
CLAIMS = p1.CLAIMS | p2.CLAIMS | p3.CLAIMS | companion.CLAIMS


def overview():
    """A table of all claims with the verdicts that the committed records give."""
    lines = []
    for name, claim in CLAIMS.items():
        verdict, evidence = claim.verdict(claim.committed())
        line = {"claim": name, "paper": claim.paper, "says": claim.says, "notebook": claim.notebook}
        source = PAPERS.get(claim.paper, claim.where)
        lines.append(line | {"source": source, "verdict": verdict, "evidence": evidence})
    return pd.DataFrame(lines)


def markdown(table, folder=""):
    """An `overview` as a Markdown table, with links to the notebooks in a folder seen from where the table stands."""
    lines = ["| claim | source | verdict | evidence | notebook |", "|---|---|---|---|---|"]
    for line in table.itertuples():
        link = f"[{line.notebook.partition('_')[0]}]({folder}{line.notebook}.ipynb)"
        cells = [f"**{line.claim}** {line.says}", line.source, line.verdict, line.evidence, link]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
