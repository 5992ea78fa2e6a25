"""Rules that changed after their runs, as amendments.toml has them: the old rule and verdict beside the new ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd

from companion import runs
from companion.claims import withdrawn, written
from companion.claims.rules import NOT_JUDGED, NOT_RUN, Lacking


@dataclass(frozen=True)
class Amendment:
    """A claim's rule that was replaced: when, why, and what it judged by.

    judge: from `withdrawn`, or today's, "p2.effective_when_small", with other options; rule: what it does, in words.
    experiment: where it is another than the claim's now.
    """

    claim: str
    date: str
    reason: str
    judge: Callable[[pd.DataFrame], str | tuple[str, str]]
    rule: str
    experiment: list[str] = ()

    def verdict(self, claim):
        """What the old rule makes of the committed records: not run without any, not judged where some lack."""
        names = self.experiment or claim.experiments
        records = [record for name in names for record in runs.committed(name).values()]
        try:
            found = self.judge(runs.frame(records)) if records else NOT_RUN
            return found if isinstance(found, str) else found[0]  # today's judges give the evidence as well
        except Lacking:
            return NOT_JUDGED


def _amendment(reasons, *, judge, reason, options=None, rule="", **told):
    module, _, name = judge.rpartition(".")
    judge = getattr(written.MODULES[module] if module else withdrawn, name)
    told |= {"reason": reasons.get(reason, reason).replace("\n", " "), "rule": rule or judge.__doc__}
    return Amendment(**told, judge=partial(judge, **(options or {})))


WRITTEN = written.table("amendments")
AMENDMENTS = tuple(_amendment(WRITTEN["reasons"], **entry) for entry in WRITTEN["amendments"])


def table(claims):
    """A line per amendment: claim, date, reason, old rule, and both verdicts on the committed records."""
    lines = []
    for amendment in AMENDMENTS:
        claim = claims[amendment.claim]
        told = {name: getattr(amendment, name) for name in ("claim", "date", "reason")} | {"old rule": amendment.rule}
        verdicts = {"old verdict": amendment.verdict(claim), "new verdict": claim.verdict(claim.committed())[0]}
        lines.append(told | verdicts)
    return pd.DataFrame(lines)


def markdown(table):
    """The `table` in Markdown; a verdict that changed is set in bold."""
    lines = []
    for line in table.to_dict("records"):
        new = f"**{line['new verdict']}**" if line["new verdict"] != line["old verdict"] else line["new verdict"]
        lines.append([line["claim"], line["date"], line["old rule"], line["reason"], line["old verdict"], new])
    head = ["claim", "date", "old rule", "why it was replaced", "old verdict", "new verdict"]
    return runs.markdown(head, lines)
