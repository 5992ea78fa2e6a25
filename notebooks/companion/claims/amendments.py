"""Rules that changed after their runs, as amendments.toml has them: the old rule and verdict beside the new ones."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from companion import runs
from companion.claims import withdrawn, written
from companion.claims.rules import NOT_JUDGED, NOT_RUN, Lacking


@dataclass(frozen=True)
class Amendment:
    """A claim's rule that was replaced: when, why, and what it judged by.

    judge: from `withdrawn`, or today's, "p2.effective_when_small", with other options; rule: what it does, in words.
    experiment: where it is another than the claim's now. fits: whether it can judge the claim's records of now.
    """

    claim: str
    date: str
    reason: str
    judge: Callable[[pd.DataFrame], str | tuple[str, str]]
    rule: str
    experiment: list[str] = ()
    fits: bool = True

    def now(self, claim):
        """What the old rule makes of the records that judge the claim today; a dash where it does not fit them."""
        return replace(self, experiment=()).verdict(claim) if self.fits else "–"

    def verdict(self, claim):
        """What the old rule makes of the records that it judged: not run without any, not judged where some lack."""
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
    """A line per amendment: claim, date, reason, old rule, its verdicts on its records and on today's, the new one."""
    lines = []
    for amendment in AMENDMENTS:
        claim = claims[amendment.claim]
        told = {name: getattr(amendment, name) for name in ("claim", "date", "reason")} | {"old rule": amendment.rule}
        old = amendment.verdict(claim)
        verdicts = {"old verdict": old, "on today's records": amendment.now(claim) if amendment.experiment else old}
        verdicts["new verdict"] = claim.verdict(claim.committed())[0]
        lines.append(told | verdicts)
    return pd.DataFrame(lines)


def markdown(table):
    """The `table` in Markdown; a verdict that changed is set in bold."""
    lines = []
    for line in table.to_dict("records"):
        new = f"**{line['new verdict']}**" if line["new verdict"] != line["old verdict"] else line["new verdict"]
        old = [line[name] for name in ("claim", "date", "old rule", "reason", "old verdict", "on today's records")]
        lines.append([*old, new])
    head = ["claim", "date", "old rule", "why it was replaced", "its verdict", "on today's records", "new verdict"]
    return runs.markdown(head, lines)
