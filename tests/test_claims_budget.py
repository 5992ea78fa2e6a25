"""The comparison at equal budget: made-up records in which the chosen points and the latencies are known."""

import pytest

from companion.claims import budget


def record(seed, **stages):
    """A finished chain; a stage is (validation accuracy, test accuracy, weights left of 1000, units left by layer)."""
    rows = [
        {"stage": name, "validation_accuracy": v, "test_accuracy": t, "nonzero": n, "alive": alive}
        | {"sparsity": 1 - n / 1000, "status": "done"}
        for name, (v, t, n, alive) in stages.items()
    ]
    config = {"kind": "chain", "case": {}, "model": {"inputs": 20, "outputs": 10}}
    return {"id": f"r{seed}", "seed": seed, "status": "done", "config": config, "rows": rows}


RECORDS = [
    record(
        seed,
        **{
            "train": (0.90, 0.90, 1000, [30, 10]),
            "dense": (0.980, 0.980, 1000, [30, 10]),
            "cut: 4×": (0.982, 0.900, 250, [30, 9]),
            "cut: 8×": (0.976 + 0.001 * seed, 0.970, 125, [20, 8]),
            "cut: 16×": (0.974, 0.999, 60, [10, 0]),
            "gates: 1": (0.90, 0.90, 100, [5, 5]),
            "gates: 2": (0.80, 0.95, 10, [5, 5]),
        },
    )
    for seed in range(3)
]
WIDTHS = [([30, 10], 8.0), ([30, 9], 7.0), ([20, 8], 6.0), ([10, 1], 5.0), ([5, 5], 4.0)]
ROWS = [{"widths": widths, "batch": 1, "median": ms} for widths, ms in WIDTHS]
TIMED = {"id": "t", "seed": 0, "status": "done", "config": {"kind": "own", "case": {}}, "rows": ROWS}


def test_points_leave_out_what_only_leads_to_them_and_find_their_latency():
    found = budget.points(RECORDS, [TIMED])
    assert list(found["method"].unique()) == ["dense", "cut", "gates"] and len(found) == 18
    last = found[found["setting"] == "16×"].iloc[0]
    assert (last["units"], last["ms, batch 1"], budget.widths_of(last)) == (10, 5.0, (10, 1))
    assert last["compression"] == pytest.approx(1000 / 60)
    assert "ms, batch 1" not in budget.points(RECORDS, [])


def test_weights_of_units_that_are_gone_do_not_count():
    """Group lasso zeroes columns: what other layers still hold for such a unit is not needed."""
    stage = {"stage": "lasso: 1", "nonzero": 900, "alive": [5, 2]}
    assert budget.weights_of(RECORDS[0], stage) == 20 * 5 + 5 * 2 + 2 * 10
    assert budget.weights_of(RECORDS[0], stage | {"nonzero": 100}) == 100
    chain = record(9, **{"dense": (0.98, 0.98, 1000, [30, 10]), "lasso: 1": (0.98, 0.98, 900, [5, 2])})
    found = budget.points([chain], []).set_index("method")
    assert found["compression"].to_dict() == pytest.approx({"dense": 1.0, "lasso": 1000 / 130})


def test_bytes_are_those_of_the_smaller_file():
    """Of a sparse file the mask is a bit for each place; where few are zero the dense one is smaller."""
    sparse = {"stage": "cut: 1", "nonzero": 100, "alive": [10, 2]}
    assert budget.bytes_of(RECORDS[0], sparse) == 4 * 100 + (20 * 10 + 10 * 2 + 2 * 10) / 8 + 4 * (10 + 2 + 10)
    assert budget.bytes_of(RECORDS[0], sparse | {"nonzero": 239}) == 4 * 240 + 4 * 22


def test_a_point_is_chosen_by_weights_and_validation_never_by_test():
    best = budget.best(budget.points(RECORDS, [TIMED]))
    assert list(best["method"].unique()) == ["dense", "cut", "gates"]
    settings = best.groupby("method")["setting"].unique().map(list).to_dict()
    assert settings == {"dense": [""], "cut": ["8×"], "gates": ["1"]}  # of gates none is near, so the better one


def test_the_table_has_means_deviations_and_says_when_there_is_nothing():
    text = budget.markdown([*RECORDS, TIMED])
    line = "| cut, 8× | 3.00 | 125 | 0.7 | 28 | 6000 |"  # the same at both seeds
    assert line in text.replace("\N{NO-BREAK SPACE}", " ")
    assert len({line.count("|") for line in text.splitlines()}) == 1
    assert budget.markdown([TIMED, *reversed(RECORDS)]) == text, "the order of the records changes the table"
    assert budget.markdown([]).startswith("Not run yet")
