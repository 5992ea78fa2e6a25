"""The rules: made-up tables in which the answer is known."""

import math
from functools import partial

import pandas as pd
import pytest
from judging import judged
from scipy import stats

from companion import claims, runs
from companion.claims import companion, p3, rules, withdrawn, written
from companion.claims.rules import Difference, holm, interval
from lib import models


def runs_of(differences, *, penalty="GL"):
    """Paired runs whose partial accuracies exceed the full ones by the given differences."""
    lines = []
    for seed, difference in enumerate(differences):
        for extent, gain in (("full", 0.0), ("partial", difference)):
            score = 0.9 + 0.001 * seed + gain
            lines.append({"version": "ours", "penalty": penalty, "extent": extent, "seed": seed})
            lines[-1] |= {"train_accuracy": score, "test_accuracy": score}
    return pd.DataFrame(lines)


def test_a_difference_says_where_its_sides_were_made_on_two_processors():
    sides = {"by": "extent", "of": "partial", "against": "full"}
    table = runs_of([0.01, 0.02, 0.03])
    same = claims.paired(table.assign(device="one"), "test_accuracy", **sides)
    assert same.across == 0 and same.points() == claims.paired(table, "test_accuracy", **sides).points()
    other = table.assign(device=table["extent"].map({"partial": "one", "full": "another"}))
    other.loc[other["seed"] == 0, "device"] = "one"
    found = claims.paired(other, "test_accuracy", **sides)
    assert found.across == 2 and found.points() == same.points() + " (two processors)"


def test_paired_intervals_are_those_of_the_t_test():
    table = runs_of([0.01, 0.02, 0.03, 0.01])
    mean, low, high, n, *_ = claims.paired(table, "test_accuracy", by="extent", of="partial", against="full")
    interval = stats.ttest_1samp([0.01, 0.02, 0.03, 0.01], 0).confidence_interval()
    assert (mean, low, high, n) == pytest.approx((0.0175, *interval, 4))
    one = claims.paired(runs_of([0.01]), "test_accuracy", by="extent", of="partial", against="full")
    assert one[0] == pytest.approx(0.01) and math.isnan(one[1]) and one[3] == 1


@pytest.mark.parametrize(
    ("gl", "sgl", "verdict"),
    [
        ([0.010, 0.011, 0.012], [0.010, 0.011, 0.012], "reproduced"),
        ([0.010, 0.011, 0.012], [0.000, 0.001, 0.002], "reproduced"),  # their mean counts
        ([0.010, 0.011, 0.012], [-0.020, -0.021, -0.022], "not reproduced"),
        ([0.0001, 0.0002, -0.0002], [0.0001, 0.0, 0.0001], "not reproduced"),  # any gain is below half a point
        ([-0.01, 0.0, 0.01], [-0.01, 0.0, 0.01], "inconclusive"),
        ([0.01, 0.01], [0.01, 0.01], "not judged"),
    ],
)
def test_better_accuracy(gl, sgl, verdict, monkeypatch):
    table = pd.concat([runs_of(gl), runs_of(sgl, penalty="SGL")])
    found, evidence = judged(claims.p1.better_partial, table, monkeypatch)
    assert found == verdict and ("test" in evidence or found == "not judged")


def test_a_gain_counts_from_half_a_point_on_and_a_full_score_leaves_no_room_for_it():
    small = pd.concat([runs_of([0.0011, 0.0012, 0.0013]), runs_of([0.0011, 0.0012, 0.0013], penalty="SGL")])
    verdict, evidence = claims.p1.better_partial(small)
    assert verdict == "not reproduced" and "better" not in evidence, "surely above 0, and below half a point"
    above = claims.p1.improves(small[small["version"] == "ours"].assign(data="a"), "accuracy", least=0)
    assert above[0] == "reproduced" and "better" in above[1]
    saturated = small.assign(train_accuracy=small["train_accuracy"] + 0.096)
    verdict, evidence = claims.p1.better_partial(saturated)
    assert (
        verdict == "not reproduced" and "training inconclusive" in evidence and "no room: full has 99.70 %" in evidence
    )


def test_training_and_test_are_judged_apart():
    table = pd.concat([runs_of([0.010, 0.011, 0.012]), runs_of([0.010, 0.011, 0.012], penalty="SGL")])
    table["test_accuracy"] = 2 * table["test_accuracy"].mean() - table["test_accuracy"]
    verdict, evidence = claims.p1.better_partial(table)
    assert verdict == "partly" and "training reproduced" in evidence and "test not reproduced" in evidence


def test_differences_know_their_p_value_their_effect_and_what_they_would_have_seen():
    values = [0.01, 0.02, 0.03, 0.01]
    found, expected = interval(values), stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.effect == pytest.approx(pd.Series(values).mean() / pd.Series(values).std())
    told = stats.nct.sf(stats.t.ppf(0.975, 3), 3, found.seen / found.error)
    assert told == pytest.approx(0.8, abs=1e-6)
    assert found.points() == "+1.75 [+0.23, +3.27], d = 1.8" and interval([0.01]).points() == "+1.00"
    assert interval([0.1, 0.1]).p == 0 and interval([0.0, 0.0]).p == 1 and interval([0.5]).p == 1


def test_a_family_of_cases_is_corrected():
    def of(p, sign=1):
        half = float(stats.t.ppf(0.975, 9))
        mean = sign * float(stats.t.ppf(1 - p / 2, 9))
        return Difference(mean, mean - half, mean + half, 10)

    assert holm([of(0.04)]) == [1]
    assert holm([of(0.04), of(0.04)]) == [0, 0]
    assert holm([of(0.04), of(0.02, -1)]) == [1, -1], "the second is held against 5 % again"
    assert holm([of(0.6), of(0.01, -1), of(0.03)]) == [0, -1, 0]


@pytest.mark.parametrize(
    ("verdicts", "all_of_them"),
    [
        ("RR", "reproduced"),
        ("RN", "partly"),
        ("RI", "partly"),
        ("PN", "partly"),
        ("NI", "not reproduced"),
        ("II", "inconclusive"),
    ],
)
def test_a_claim_about_several_cases(verdicts, all_of_them):
    words = {"R": rules.REPRODUCED, "P": rules.PARTLY, "N": rules.NOT, "I": rules.INCONCLUSIVE}
    assert rules.of_all(words[v] for v in verdicts) == all_of_them


@pytest.mark.parametrize(
    ("wins", "verdict"), [(("GL", "SGL"), "reproduced"), (("SGL",), "partly"), ((), "not reproduced")]
)
def test_faster_steps_in_the_papers_form(wins, verdict):
    lines = [{"penalty": "none", "extent": "none", "form": "closed", "step_s": [1.0] * 3}]
    for penalty, form in ((p, f) for p in ("GL", "SGL") for f in ("autograd", "closed")):
        lines.append({"penalty": penalty, "extent": "full", "form": form, "step_s": [1.0, 2.0, 1.0]})
        ratio = 0.9 if form == "closed" or penalty in wins else 0.995
        lines.append({"penalty": penalty, "extent": "partial", "form": form, "step_s": [ratio, 2 * ratio, 5.0]})
    assert claims.p1.faster_partial(pd.DataFrame(lines).assign(seed=0), layout="torch's")[0] == verdict


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.0001, -0.0001, 0.0002, -0.0002], "reproduced"),
        ([0.002, 0.002, 0.0021, 0.0019], "not reproduced"),
        ([-0.01, 0.01, 0.0], "inconclusive"),
        ([0.0], "not judged"),
    ],
)
def test_equivalence_of_precisions(differences, verdict, monkeypatch):
    table = runs_of(differences).rename(columns={"extent": "precision"})
    table["precision"] = table["precision"].map({"full": "fp32", "partial": "bf16"})
    assert judged(companion.same_precision, table, monkeypatch)[0] == verdict


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([0.0180, 0.0182, 0.0181], "reproduced"),
        ([0.0190, 0.0192, 0.0191], "not reproduced"),
        ([0.0170, 0.0200, 0.0184], "inconclusive"),
        ([0.0180, 0.0182], "not judged"),
    ],
)
def test_a_chosen_way_against_a_bar(errors, verdict, monkeypatch):
    """The way that validation has chosen is judged, whatever stands beside it; with one way alone there is no gain."""
    names = ["dense", "as in notebook 11", "mine"]
    lines = [
        {"seed": k, "chosen": "mine", "way": way, "test_accuracy": 1 - (error if way == "mine" else 0.01)}
        for k, error in enumerate(errors)
        for way in names
    ]
    found, words = judged(partial(companion.hundredfold, bar=0.0185), pd.DataFrame(lines), monkeypatch)
    assert found == verdict and (verdict == "not judged" or "against as in notebook 11" in words)
    table = pd.DataFrame(lines).replace({"mine": "as in notebook 11"}).drop_duplicates(["seed", "way"], keep="last")
    assert judged(partial(companion.hundredfold, bar=0.0185), table, monkeypatch)[0] == verdict


def test_without_records_a_claim_is_not_run():
    for claim in claims.CLAIMS.values():
        assert claim.verdict([]) == ("not run", "no records")
        assert claim.rule and claim.says and claim.experiments


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_a_card_says_what_is_claimed_by_whom_and_what_came_of_it(name):
    lines = claims.card_text(name, "partly", "out of ten; 3 of 4 (2 seeds; 1 lost); half; none").splitlines()
    claim = claims.CLAIMS[name]
    assert all(line.startswith(">") for line in lines)
    assert lines[0] == f"> **{name}** {claim.says}" and lines[-1] == f"> *Rule:* {claim.rule}"
    assert "> **Verdict: ~ partly**" in lines and "> out of ten" in lines
    of_paper = claim.paper in claims.PAPERS and not claim.where.startswith("the companion")
    assert f"> *Source:* {claims.PAPERS[claim.paper] + ', ' if of_paper else ''}{claim.where}" in lines
    assert [line for line in lines if line.startswith("> - ")] == [
        "> - 3 of 4 (2 seeds; 1 lost)",
        "> - half",
        "> - none",
    ]


def test_cards_of_several_claims_are_shown_one_by_one(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda card: shown.append(card.data))
    claims.card("P3.4", [])
    claims.card(("P3.1", "P3.2"), [])
    assert [text[:8] for text in shown] == ["> **P3.4", "> **P3.1", "> **P3.2"]
    assert all("not run" in text for text in shown)


@pytest.mark.parametrize(
    ("judge", "column", "kept", "lacks"),
    [
        (claims.p1.better_partial, "penalty", "GL", "penalty SGL"),
        (claims.p1.better_partial, "extent", "full", "extent partial"),
        (p3.more_nodes, "penalty", "L2", "penalty L1, none"),
        (p3.fewer_orphans, "penalty", "none", "penalty L1"),
    ],
)
def test_a_rule_without_one_of_its_sides_judges_nothing(judge, column, kept, lacks, monkeypatch):
    table = (
        dynamics_of(50)
        if judge.__module__.endswith("p3")
        else pd.concat([runs_of([0.1]), runs_of([0.1], penalty="SGL")])
    )
    monkeypatch.setattr(claims.rules.runs, "frame", lambda records: table[table[column] == kept])
    claim = claims.Claim("P1", "", "", "", (), "", judge)
    assert claim.verdict([{}]) == ("not judged", f"the rule needs runs that are not there: {lacks}")


# --- P1 ------------------------------------------------------------------------------------------------------------


def test_the_choice_is_by_validation_over_the_first_seeds():
    lines = [
        {"data": "a", "seed": seed, "lam": lam, "validation": score}
        for lam, scores in ((0.1, [3, 3, 0]), (0.2, [2, 2, 9]))
        for seed, score in enumerate(scores)
    ]
    options = {"case": ["data"], "among": ["lam"], "score": "validation"}
    table = pd.DataFrame(lines)
    assert set(claims.chosen(table, **options, seeds=2)["lam"]) == {0.1}
    assert set(claims.chosen(table, **options, seeds=3)["lam"]) == {0.2}
    assert set(claims.chosen(table, **options, seeds=2, smallest=True)["lam"]) == {0.2}
    later = table.assign(seed=table["seed"] + 10**6)
    assert set(claims.chosen(later, **options, seeds=2)["lam"]) == {0.1}, "whatever seed a call begins at"
    assert len(claims.chosen(table, **options, seeds=2)) == 3, "all seeds of the choice"


def test_overlapping_training_sets_widen_the_interval():
    table = runs_of([0.01, 0.02, 0.03, 0.01])
    options = {"by": "extent", "of": "partial", "against": "full"}
    plain, wide = (claims.paired(table, "test_accuracy", **options, overlap=o) for o in (0, 1 / 9))
    assert (wide[2] - wide[0]) / (plain[2] - plain[0]) == pytest.approx(((1 / 4 + 1 / 9) / (1 / 4)) ** 0.5)
    assert wide.effect == pytest.approx(plain.effect), "it is told in standard deviations of the differences"


def fits(gain):
    """Regression runs of two tables in which partial's RMSE is lower by `gain` at the λ that validation prefers."""
    lines = []
    for name in ("a", "b"):
        for extent in ("full", "partial"):
            for lam, error in ((1e-3, 0.5), (1e-4, 0.9)):  # the second would be judged the other way round
                for seed in range(6):
                    less = gain * (1 + 0.01 * seed) * (extent == "partial") * (1 if lam == 1e-3 else -9)
                    line = {"data": name, "penalty": "GL", "extent": extent, "lam": lam, "steps": 10, "seed": seed}
                    scores = {f"{part}_rmse": error - less for part in ("train", "validation", "test")}
                    lines.append(line | scores)
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.01, "reproduced"), (-0.01, "not reproduced"), (0.0, "not reproduced")]
)
def test_better_fits(gain, verdict):
    assert claims.p1.better_fits(fits(gain))[0] == verdict


@pytest.mark.parametrize(
    ("penalty", "step", "verdict"), [(0.9, 0.95, "reproduced"), (0.9, 1.0, "partly"), (1.0, 1.01, "not reproduced")]
)
def test_faster_in_almost_all(penalty, step, verdict):
    head = {"situation": "s", "seed": 0}
    lines = [head | {"penalty": "none", "extent": "none", "form": "closed", "what": "step", "step_s": [1.0]}]
    for what, ratio in (("penalty", penalty), ("step", step)):
        for extent in ("full", "2", "4"):
            times = [2.0, 3.0, 2.5] if extent == "full" else [2.0 * ratio, 3.0 * ratio, 9.0]
            line = head | {"penalty": "GL", "extent": extent, "form": "autograd"}
            lines.append(line | {"what": what, "step_s": times})
    slow = pd.DataFrame(lines[1:]).assign(form="closed", step_s=[[1.0, 2.0, 3.0]] * (len(lines) - 1))
    table = pd.concat([pd.DataFrame(lines), slow])
    assert claims.p1.faster_in_almost_all(table, layout="torch's")[0] == verdict
    with pytest.raises(rules.Lacking, match="authors'"):
        claims.p1.faster_in_almost_all(table)


def _survived(growth, differ, noise=1):
    return [
        {"penalty": "GL full", "data": name, "width": width, "seed": seed, "alive_1e-3": [784, survivors + seed, 10]}
        for k, name in enumerate(("a", "b"))
        for width, survivors in ((200, 100 + k * differ), (400, round(growth * (100 + k * differ))))
        for seed in (noise * n for n in range(3))
    ]


@pytest.mark.parametrize(
    ("growth", "differ", "noise", "verdict"),
    [
        (1.1, 50, 1, "reproduced"),
        (1.9, 50, 1, "not reproduced"),
        (1.1, 0, 1, "inconclusive"),
        (1.19, 50, 30, "inconclusive"),
    ],
)
def test_structure(growth, differ, noise, verdict):
    lines = _survived(growth, differ, noise)
    if noise > 1:  # the wider networks do not follow the narrower ones seed by seed
        lines = [line | {"seed": line["seed"] if line["width"] == 200 else 60 - line["seed"]} for line in lines]
    found, evidence = claims.p1_structure.structure(pd.DataFrame(lines))
    assert found == verdict, evidence


def test_data_sets_with_another_lam_each_do_not_show_that_the_structure_depends_on_them():
    table = pd.DataFrame(_survived(1.1, 50))
    own = table.assign(lam=table["data"].map({"a": 1e-4, "b": 1e-3}))
    assert claims.p1_structure.structure(own)[0] == "inconclusive"
    assert claims.p1_structure.structure(table.assign(lam=1e-4))[0] == "reproduced"


def test_a_structure_of_units_that_are_all_gone_says_nothing():
    table = pd.DataFrame(_survived(1.1, 50))
    none = table.assign(penalty="GL partial")
    none["alive_1e-3"] = [[784, 0, 0]] * len(none)
    found, evidence = claims.p1_structure.structure(pd.concat([table, none]))
    assert found == "partly" and "GL partial: a 0 units, of which a run has none" in evidence


def test_the_older_rules_of_a_structure():
    table = pd.DataFrame(_survived(1.1, 50, 1)).assign(steps=100)
    longer = table[(table["data"] == "b") & (table["seed"] < 2)].assign(steps=500)
    assert withdrawn.structure(pd.concat([table, longer]), longer=True) == "reproduced", "as many after more steps"
    longer["alive_1e-3"] = longer["alive_1e-3"].map(lambda counts: [784, counts[1] // 3, 3])
    assert withdrawn.structure(pd.concat([table, longer]), longer=True) == "not tested as stated"
    assert withdrawn.structure(pd.concat([table, longer]), penalised=True) == "reproduced"


def test_units_left_free_are_no_survivors():
    line = {"alive_1e-3": [784, 60, 50], "alive_1e-3_free": [98, 10, 20]}
    table = pd.DataFrame([line, {"alive_1e-3": [784, 7, 5]}])
    assert list(claims.p1_structure.survivors(table)) == [110, 12]
    assert list(claims.p1_structure.survivors(table, penalised=True)) == [80, 12]


@pytest.mark.parametrize(("second", "verdict"), [(0.9, "reproduced"), (1.1, "not reproduced")])
def test_a_case_is_faster_where_every_session_of_measuring_says_so(second, verdict):
    lines = [
        {"penalty": penalty, "form": "autograd", "extent": extent, "seed": seed, "step_s": [1 + 9 * k, 2.0 * ratio]}
        for seed, ratio in enumerate((0.9, second))
        for penalty in ("GL", "SGL")
        for k, (extent, ratio) in enumerate((("full", 1.0), ("partial", ratio)))
    ]
    table = pd.DataFrame(lines).assign(step_s=lambda t: t["step_s"].map(lambda times: times[1:]))
    found, evidence = claims.p1.faster_partial(table, layout="torch's")
    assert found == verdict and "2 sessions" in evidence and "session 2, torch's layout, autograd: GL" in evidence
    steps = table.assign(situation="s", what="step", extent=table["extent"].replace("partial", "8"))
    both = pd.concat([steps, steps.assign(what="penalty")])
    assert claims.p1.faster_in_almost_all(both, layout="torch's")[0] == verdict


@pytest.mark.parametrize(("theirs", "verdict"), [(0.9, "reproduced"), (1.0, "not reproduced")])
def test_the_authors_layout_decides_where_there_is_one(theirs, verdict):
    ratios = {("authors'", "mlp"): theirs, ("torch's", "mlp"): 1.9 - theirs, ("torch's", "LeNet-5"): 0.9}
    lines = [
        {"situation": name, "penalty": penalty, "extent": extent, "form": "autograd", "what": what, "layout": layout}
        | {"seed": 0, "step_s": [2.0 * (ratio if extent == "8" else 1)] * 3}
        for (layout, name), ratio in ratios.items()
        for penalty in ("GL", "SGL")
        for what in ("penalty", "step")
        for extent in ("full", "8")
    ]
    table = pd.DataFrame(lines)
    table.loc[table["layout"] == "torch's", "layout"] = None
    found, evidence = claims.p1.faster_in_almost_all(table)
    assert found == verdict
    mlp = 2 if verdict == "reproduced" else 0
    told = f"what decides, in each session: step {mlp + 2} of 4 (mlp {mlp} of 2, LeNet-5 2 of 2)"
    assert told in evidence
    assert claims.p1.faster_partial(table[table["situation"] == "mlp"])[0] == verdict


def with_none(error):
    """`fits`, and runs without a penalty with this error."""
    none = [
        {"data": name, "penalty": "none", "extent": "none", "lam": 0.0, "steps": 10, "seed": seed}
        | {f"{part}_rmse": error for part in ("train", "validation", "test")}
        for name in ("a", "b")
        for seed in range(6)
    ]
    return pd.concat([fits(0.01), pd.DataFrame(none)])


def test_a_grid_ends_at_no_penalty():
    judged = claims.p1.better_fits
    assert judged(with_none(0.6)) == judged(fits(0.01)), "a penalty is better than none"
    half = with_none(0.4)
    half.loc[(half["penalty"] == "none") & (half["data"] == "b"), "validation_rmse"] = 0.6
    found, evidence = judged(half)
    assert found == "partly" and "no penalty for one of the two: a" in evidence, "one of two is not more than half"
    with pytest.raises(claims.Lacking, match="prefers a penalty"):
        judged(with_none(0.4))


def test_pruned_networks_are_judged_at_the_penalty_that_validation_prefers():
    lines = [
        {"data": name, "extent": extent, "lam": lam, "seed": seed, "stage": "tuned", "sparsity": 0.9}
        | {"validation_accuracy": 1 - lam, "train_accuracy": 0.99}
        | {"test_accuracy": 0.9 + (0.01 + 0.001 * seed) * (extent == "partial") * (-5 if lam == 0.1 else 1)}
        for name in ("a", "b")
        for extent in ("full", "partial")
        for lam in (0.1, 0.01)
        for seed in range(3)
    ]
    lines.append(lines[0] | {"lam": 0.0, "validation_accuracy": 2.0})
    table = pd.DataFrame(lines)
    found, evidence = claims.p1.generalises(table, fresh=False)
    assert found == "reproduced" and "a, gap smaller by +1.10" in evidence
    with pytest.raises(claims.Lacking, match="fresh seeds"):
        claims.p1.generalises(table)
    new = table.assign(fresh=True, seed=100 + table["seed"], validation_accuracy=0.5)
    worse = new.assign(test_accuracy=new["test_accuracy"] - 0.1 * (new["extent"] == "partial"))
    judged = pd.concat([table, worse])
    found, evidence = claims.p1.generalises(judged)
    assert found == "not reproduced" and "a, gap smaller by -8.90" in evidence and "3 seeds" in evidence
    assert claims.p1.generalises(judged, fresh=False) == claims.p1.generalises(table, fresh=False)


@pytest.mark.parametrize(("lost", "verdict"), [(0.02, "not reproduced"), (0.0, "reproduced")])
def test_relabelled_inputs_are_judged_at_the_demos_beta_where_some_are_free(lost, verdict):
    lines = [
        {"extent": extent, "beta": beta, "inputs": inputs, "seed": seed, "test_accuracy": 0.97 + 0.001 * seed + gain}
        for extent, beta, gains in (("full", 0, (0, 0)), ("partial", 8, (0, -lost)), ("partial", 2, (0, 0.01)))
        for inputs, gain in zip(("in order", "relabelled"), gains, strict=True)
        for seed in range(3)
    ]
    found, evidence = claims.p1.relabelled(pd.DataFrame(lines))
    assert found == verdict and "full +0.00" in evidence
    assert claims.p1.relabelled_units(None)[0] == "reproduced"


# --- P3 ------------------------------------------------------------------------------------------------------------


def dynamics_of(gain, *, kept=0, extra=0.0):
    """Three seeds of {none, L1, L2} × q: with a regularizer `gain` more of 400 nodes go, and `kept` orphans stay."""
    lines = []
    for seed, q, penalty in ((s, q, p) for s in range(3) for q in (1, 2) for p in ("none", "L1", "L2")):
        gone = 40 + seed + (0 if penalty == "none" else gain + seed)
        last = {"removed_outgoing": [30, 10], "orphans": [20 + seed if penalty == "none" else kept, 0]}
        line = {"seed": seed, "q": q, "penalty": penalty, "alive": [400 - gone, 0], "units": 400}
        line["sparsity"] = 0.9 + (extra if penalty == "L2" else 0)
        lines.append(line | {"dynamics": last | {"pruned": [0.9, 0.9, 0.9]}, "sizes": [784, 300, 100, 10]})
    return pd.DataFrame(lines)


def test_more_nodes_and_fewer_orphans():
    assert p3.more_nodes(dynamics_of(50))[0] == "reproduced"
    assert p3.more_nodes(dynamics_of(50, extra=0.05))[0] == "not tested as stated", "not at equal pruned weights"
    assert p3.more_nodes(dynamics_of(-50))[0] == "not reproduced"
    assert p3.fewer_orphans(dynamics_of(50))[0] == "reproduced"
    assert p3.fewer_orphans(dynamics_of(50, kept=30))[0] == "not reproduced"
    mixed = dynamics_of(50)
    assert p3.more_nodes(pd.concat([mixed[mixed.q == 1], dynamics_of(0).query("q == 2")]))[0] == "partly"
    assert p3.more_than_independent(dynamics_of(150))[0] == "reproduced"
    assert p3.more_than_independent(dynamics_of(10))[0] == "not reproduced"


@pytest.mark.parametrize("lost", ["penalty == 'L2' and q == 2", "penalty == 'L2' and q == 2 and seed > 0"])
@pytest.mark.parametrize("rule", [p3.more_nodes, p3.more_than_independent])
def test_a_regularizer_without_enough_runs_at_one_q_is_not_judged(rule, lost, monkeypatch):
    table = dynamics_of(150)
    assert judged(rule, table.drop(table.query(lost).index), monkeypatch)[0] == "not judged"


@pytest.mark.parametrize(
    ("left", "loss", "verdict"),
    [
        ([150, 150], [0.001] * 2, "reproduced"),
        ([230, 230], [0.001] * 2, "partly"),
        ([150, 150], [0.003] * 2, "not reproduced"),
        ([150, 300], [0.001] * 2, "partly"),
        ([150, 150], [0.006] * 2, "not reproduced"),
    ],
)
def test_half_of_the_units_at_almost_the_dense_score(left, loss, verdict):
    lines = []
    for (k, network), seed in ((n, s) for n in enumerate("ab") for s in range(3)):
        for stage, penalty in (("dense", "none"), ("stochastic", "L2"), ("stochastic", "none")):
            lines.append({"network": network, "seed": seed, "stage": stage, "penalty": penalty, "units": 400})
            alive, score = (400, 0.98) if stage == "dense" else (left[k], 0.98 - loss[k] + 0.0002 * seed)
            lines[-1] |= {"alive": [alive], "test_accuracy": score}
    table = pd.DataFrame(lines)
    assert p3.application(table, share=0.5, margins={"test_accuracy": 0.002})[0] == verdict


def sampled_and_not(shares, alive):
    """A network at three seeds: sampling prunes 95 % at a target of 80 %; without it, runs of these pruned shares."""
    lines = []
    for seed in range(3):
        kinds = [("stochastic", 0.8, 0.95, 40), *(("no sampling", s, s, n) for s, n in zip(shares, alive, strict=True))]
        for stage, target, share, left in kinds:
            line = {"network": "a", "seed": seed, "stage": stage, "penalty": "L2", "units": 100, "target": target}
            lines.append(line | {"sparsity": share, "alive": [left + seed % 2 * (target + 1)], "test_accuracy": 0.9})
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    ("shares", "alive", "verdict"),
    [
        ([0.95], [60], "partly"),
        ([0.95], [20], "not reproduced"),
        ([0.8], [60], "not tested as stated"),
        ([0.8, 0.95], [60, 20], "not reproduced"),
    ],
)
def test_sampling_is_held_against_the_run_without_it_that_pruned_as_much(shares, alive, verdict):
    gains = {"test_accuracy": 0.01, "removed": 0.01}
    table = sampled_and_not(shares, alive)
    found, evidence = p3.sampling(table, gains=gains)
    assert found == verdict and f"removed {'+' if alive[-1] > 40 else '-'}" in evidence.replace("−", "-")
    if 0.8 in shares:
        assert withdrawn.sampling_at_the_target(table, gains=gains) == "partly"


def full_networks(losses, *, gone=0.62, dense=0.93, scale=1.0, stages=("dense", "stochastic"), lam=1e-3):
    """A pair per seed of VGG-16, dense and pruned: what pruning costs each, and the share of units that it removes."""
    units, lines = sum(models.widths("vgg16", scale=scale)), []
    for (seed, loss), stage in ((pair, stage) for pair in enumerate(losses) for stage in stages):
        pruned = stage == "stochastic"
        line = {"network": "vgg16", "seed": seed, "stage": stage, "penalty": "L2" if pruned else "none", "units": units}
        line |= {"alive": [units - round(gone * units) * pruned], "test_accuracy": dense + 0.001 * seed - loss * pruned}
        line |= {"lam": lam, "target": 0.9} if pruned else {}
        lines.append(line | {"validation_accuracy": line["test_accuracy"]})
    return pd.DataFrame(lines)


LITTLE, UNSURE, MUCH = [0.003, 0.004, 0.005], [-0.01, 0.005, 0.02], [0.028, 0.03, 0.032]


@pytest.mark.parametrize(
    ("losses", "options", "verdict"),
    [
        (LITTLE, {}, claims.REPRODUCED),
        ([-loss for loss in MUCH], {}, claims.REPRODUCED),
        (LITTLE, {"gone": 0.55}, claims.PARTLY),
        (LITTLE, {"gone": 0.45}, claims.NOT),
        (UNSURE, {"gone": 0.45}, claims.NOT),
        (MUCH, {}, claims.NOT),
        (UNSURE, {}, claims.INCONCLUSIVE),
        (LITTLE[:2], {}, claims.NOT_JUDGED),
        (MUCH[:1], {}, claims.NOT_JUDGED),
        (LITTLE, {"stages": ("dense",)}, claims.NOT_JUDGED),
        (LITTLE, {"stages": ("stochastic",)}, claims.NOT_JUDGED),
        (LITTLE, {"dense": 0.91}, claims.NOT_AS_STATED),
        (LITTLE, {"scale": 0.5}, claims.NOT_AS_STATED),
        (MUCH[:1], {"scale": 0.5}, claims.NOT_JUDGED),
        (MUCH[:2], {"dense": 0.91}, claims.NOT_JUDGED),
    ],
)
def test_a_network_at_its_published_widths(losses, options, verdict, monkeypatch):
    judge = partial(p3.full_size, share=0.6, margin=0.01, floor=0.92)
    found, evidence = judged(judge, full_networks(losses, **options), monkeypatch)
    assert found == verdict and evidence


def test_a_dense_network_whose_lam_was_chosen_takes_the_place_of_the_other():
    table = full_networks(LITTLE)
    dense = table[table["stage"] == "dense"]
    better = dense.assign(lam=1e-3, test_accuracy=dense["test_accuracy"] + 0.1)
    options = {"share": 0.5, "margins": {"test_accuracy": 0.01}}
    assert p3.application(table, **options)[0] == claims.REPRODUCED
    assert p3.application(pd.concat([table, better]), **options)[0] == claims.NOT
    apart = pd.concat([table, better.assign(network="another")])
    assert len(p3.at_best_lam(apart)) == len(apart), "it is another network's"


def test_of_several_settings_at_full_size_validation_takes_one_of_those_that_remove_enough(monkeypatch):
    few = full_networks([0.0, 0.001, 0.002], gone=0.4, lam=1e-4)
    good, bad = full_networks(LITTLE), full_networks(MUCH, gone=0.8, lam=3e-3)
    others = pd.concat([few, bad])
    table = pd.concat([good, others[others["stage"] == "stochastic"]])
    judge = partial(p3.full_size, share=0.6, margin=0.01, floor=0.92)
    found, evidence = judged(judge, table, monkeypatch)
    assert found == claims.REPRODUCED and "62.0 % removed" in evidence
    assert withdrawn.by_half_width(table, share=0.6, margin=0.01, floor=0.92) == claims.NOT


def test_an_interval_on_both_sides_of_a_margin_is_inconclusive_and_a_narrow_network_is_not_the_claims():
    table = pd.concat([full_networks(UNSURE).assign(network="a"), full_networks(UNSURE).assign(network="b")])
    options = {"share": 0.5, "margins": {"test_accuracy": 0.01}}
    assert p3.application(table, **options)[0] == "inconclusive"
    assert p3.application(full_networks(LITTLE, scale=0.25), **options)[0] == "not tested as stated"
    assert p3.application(full_networks(LITTLE), **options)[0] == "reproduced"


@pytest.mark.parametrize(
    ("losses", "verdict"), [(LITTLE, "reproduced"), (UNSURE, "inconclusive"), (MUCH, "not reproduced")]
)
def test_slightly_less_accurate_than_dense(losses, verdict):
    table = full_networks(losses).assign(sparsity=0.9)
    magnitude = table[table["stage"] == "dense"].assign(stage="magnitude")
    found, evidence = p3.only_slightly_less(pd.concat([table, magnitude]), margins={"vgg16": 0.01})
    assert found == verdict and "− magnitude" in evidence and "90.0 % of the weights" in evidence


def test_what_zeroing_without_l2_removes_is_not_judged_at_full_size():
    others = full_networks(MUCH).assign(penalty="none", seed=9)
    table = pd.concat([full_networks(LITTLE), others[others["stage"] == "stochastic"]])
    assert p3.full_size(table, share=0.6, margin=0.01, floor=0.92)[0] == claims.REPRODUCED


def test_each_network_of_p3_9_has_the_margin_of_its_own_claim():
    own = {"300-100": "P3.4", "1000-1000": "P3.4", "vgg16": "P3.5 ¼", "unet": "P3.6", "ct_cnn": "P3.7"}
    margins = claims.CLAIMS["P3.9"].judge.keywords["margins"]
    of_claims = {net: claims.CLAIMS[name].judge.keywords["margins"] for net, name in own.items()}
    assert margins == {net: of.get("test_dice", of.get("test_accuracy")) for net, of in of_claims.items()}


def test_the_margin_on_mnist_is_one_and_more_than_what_seeds_do():
    for name in ("P3.4", "P3.9", "P3.10"):
        options = claims.CLAIMS[name].judge.keywords
        (margins,) = (option for option in options.values() if isinstance(option, dict))
        of_mnist = {"P3.9": ("300-100", "1000-1000")}.get(name, ("test_accuracy",))
        assert all(margins[key] == rules.MNIST for key in of_mnist)
    table = runs.frame([record for name in ("P2.2", "P3.4") for record in claims.CLAIMS[name].committed()])
    dense = table[(table["stage"] == "dense") & (table["penalty"] == "none") & (table["data"] != "Fashion-MNIST")]
    spreads = dense.groupby(dense["net"].fillna(dense["network"]))["test_accuracy"].std()
    assert len(spreads) == 4 and (1.96 * math.sqrt(2) * spreads < rules.MNIST).all()


@pytest.mark.parametrize(
    "change", [{"judge": "p1.nobody"}, {"rule": "{p1.NOTHING}"}, {"rule": "{odd}"}, {"colour": "red"}]
)
def test_a_claim_with_what_nobody_knows_is_named(change, monkeypatch):
    entry = {
        "paper": "P1",
        "notebook": "",
        "says": "",
        "where": "",
        "experiment": "e",
        "rule": "",
        "judge": "p1.generalises",
    }
    monkeypatch.setattr(written, "table", lambda file: {"P9.9": entry | change})
    with pytest.raises(ValueError, match="p1.toml: 'P9.9' cannot be made a claim"):
        written.claims()
