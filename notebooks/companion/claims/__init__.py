"""The papers' claims, each with a rule in numbers; `amendments` has the rules that were replaced after their runs.

A rule reads tables (see `companion.runs.frame`) and returns a verdict and the evidence for it in words.
"""

import re

import pandas as pd

from companion import runs
from companion.claims import amendments, budget, companion, images, p1, p1_structure, p2, p3, written
from companion.claims.rules import (
    INCONCLUSIVE,
    NOT,
    NOT_AS_STATED,
    NOT_JUDGED,
    NOT_RUN,
    PARTLY,
    REPRODUCED,
    Claim,
    Lacking,
    chosen,
    paired,
)
from lib.checks import one_of

PAPERS = {"P1": "arXiv 2009.01395", "P2": "arXiv 2109.05075", "P3": "arXiv 2012.03827"}
CLAIMS = written.claims()
PARTS = re.compile(r"; (?![^(]*\))")  # what parts the evidence; not in parentheses
SIGNS = {REPRODUCED: "✓ ", PARTLY: "~ ", NOT: "✗ "}
VERDICTS = (REPRODUCED, PARTLY, NOT, INCONCLUSIVE, NOT_AS_STATED, NOT_JUDGED, NOT_RUN)


def card(names, records):
    """Show what a notebook's records say of a claim, or of several: a card each, with verdict, evidence and rule."""
    from IPython.display import Markdown, display

    for name in [names] if isinstance(names, str) else names:
        claim = CLAIMS[one_of("claim", name, CLAIMS)]
        display(Markdown(card_text(name, *claim.verdict(records))))


def card_text(name, verdict, evidence):
    """The card of a claim in Markdown: the evidence's first part as a sentence, the others one below the other."""
    claim = CLAIMS[name]
    source = _source(claim, f"{PAPERS.get(claim.paper)}, ")
    lead, *parts = PARTS.split(evidence)
    lines = [f"**{name}** {claim.says}", "", f"*Source:* {source}", ""]
    lines += [f"**Verdict: {SIGNS.get(verdict, '')}{verdict}**", "", lead, *[""] * bool(parts)]
    lines += [*(f"- {part}" for part in parts), ""]
    return "\n".join(f"> {line}".rstrip() for line in [*lines, f"*Rule:* {claim.rule}"])


def _source(claim, paper):
    """Where a claim is made, behind the name of its paper, if it is one's."""
    return claim.where if claim.own else paper + claim.where


def overview():
    """A table of all claims with the verdicts that the committed records give."""
    lines = []
    for name, claim in CLAIMS.items():
        verdict, evidence = claim.verdict(claim.committed())
        line = {"claim": name, "paper": claim.paper, "says": claim.says, "notebook": claim.notebook}
        source = _source(claim, f"{claim.paper}: ")
        lines.append(line | {"source": source, "verdict": verdict, "evidence": evidence})
    return pd.DataFrame(lines)


def markdown(table, folder=""):
    """An `overview` as a Markdown table; links lead to a folder, seen from where the table is.

    The evidence stands below the claim, where it has the width to be read, its numbers folded.
    """
    lines = []
    for line in table.itertuples():
        link = f"**[{line.claim}]({folder}{line.notebook}.ipynb)**"
        source = "" if line.source.startswith("notebooks/") else f" ({line.source})"
        what, *numbers = PARTS.split(line.evidence)
        folded = f"<details><summary>{what}</summary>{'<br>'.join(numbers)}</details>" if numbers else f"<br>{what}"
        sign = SIGNS.get(line.verdict, "")
        lines.append([f"{link} {line.says}{source}{folded}", f"{sign}{line.verdict}"])
    return runs.markdown(["claim, and the evidence", "verdict"], lines)
