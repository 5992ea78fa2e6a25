"""Rules that were changed: the old verdict stands beside the new, both from the committed records."""

import dataclasses

import pytest

from companion import claims, runs
from companion.claims import amendments, rules

VERDICTS = {rules.REPRODUCED, rules.PARTLY, rules.NOT}
TABLE = amendments.table(claims.CLAIMS)
AMENDMENTS = amendments.AMENDMENTS


def test_every_amendment_has_a_claim_a_reason_its_rule_and_both_verdicts():
    assert set(TABLE["claim"]) <= set(claims.CLAIMS)
    first = TABLE[TABLE["date"] <= "2026-11-28"]
    assert set(first["old verdict"]) <= VERDICTS, "the first withdrawn rules knew three words"
    for line in TABLE.to_dict("records"):
        assert line["reason"] and line["old rule"] and line["date"] >= "2026-11"
        assert line["new verdict"] == claims.CLAIMS[line["claim"]].verdict(claims.CLAIMS[line["claim"]].committed())[0]


def test_a_store_without_records_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPANION_RUNS", str(tmp_path))
    table = amendments.table(claims.CLAIMS)
    assert set(table["old verdict"]) == set(table["new verdict"]) == {rules.NOT_RUN}
    assert set(table["on today's records"]) == {rules.NOT_RUN, "–"}


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [("P2.2", "reproduced"), ("P2.2 VGG-16", "reproduced"), ("P3.4", "reproduced"), ("P3.5 ¼", "not reproduced")],
)
def test_the_withdrawn_rules_give_the_verdicts_that_were_published(claim, verdict):
    assert TABLE.drop_duplicates("claim").set_index("claim")["old verdict"][claim] == verdict


def test_a_withdrawn_rule_without_records_judges_nothing():
    amendment = dataclasses.replace(AMENDMENTS[0], experiment=("no_such_experiment",))
    assert amendment.verdict(claims.CLAIMS[amendment.claim]) == rules.NOT_RUN


def test_a_changed_verdict_is_bold():
    changed = TABLE["old verdict"] != TABLE["new verdict"]
    assert amendments.markdown(TABLE).count("**") == 2 * changed.sum()


def test_a_claim_that_has_a_verdict_has_records_of_each_of_its_experiments():
    """A misspelt experiment would leave a claim without a part of its runs."""
    for name, claim in claims.CLAIMS.items():
        found = {experiment: bool(runs.committed(experiment)) for experiment in claim.experiments}
        judged = claim.verdict(claim.committed())[0] not in (claims.NOT_JUDGED, claims.NOT_RUN)
        assert all(found.values()) or not judged, f"{name}: {found}"


def test_an_old_rule_judges_todays_records_too():
    same = [not a.experiment or list(a.experiment) == list(claims.CLAIMS[a.claim].experiments) for a in AMENDMENTS]
    assert (TABLE["old verdict"] == TABLE["on today's records"])[same].all()
    first = TABLE[TABLE["claim"] == "P3.6"].iloc[0]
    verdicts = [first[name] for name in ("old verdict", "on today's records", "new verdict")]
    assert verdicts == [rules.PARTLY, rules.REPRODUCED, rules.INCONCLUSIVE]


def test_only_old_rules_that_do_not_fit_todays_records_are_left_out():
    for amendment in AMENDMENTS:
        claim = claims.CLAIMS[amendment.claim]
        if not amendment.fits:
            with pytest.raises((KeyError, TypeError)):
                dataclasses.replace(amendment, fits=True).now(claim)
