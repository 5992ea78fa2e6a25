"""Records as tables: what diverged is left out, and said."""

from companion import runs


def record(seed, status="done", message="", kind="chain", wall_s=90.0):
    rows = [{"stage": "train", "status": status, "curves": {}} | ({"test_accuracy": 0.9} if status == "done" else {})]
    head = {"id": f"{kind}{seed}", "experiment": "mine", "seed": seed, "status": status, "message": message}
    provenance = {"threads": 1, "device": "a processor"}
    config = {"kind": kind, "case": {"penalty": "L2", "sizes": [3, 2]}}
    return head | {"config": config, "rows": rows, "wall_s": wall_s, "provenance": provenance}


def test_runs_that_diverged_are_left_out_of_tables_and_named():
    records = [record(0), record(1, "diverged", "train: the loss is nan at step 3"), record(2)]
    assert runs.frame(records)["seed"].tolist() == [0, 2]
    first, second = runs.spent([*records, records[0]]).splitlines()
    assert first == "3 runs, 1 diverged; together 4.5 minutes; 1 thread each; device: a processor"
    assert second == "  diverged, and left out: mine, penalty L2, seed 1 (train: the loss is nan at step 3)"


def test_long_work_is_told_in_hours():
    assert "2 runs, none diverged; together 2.5 hours;" in runs.spent([record(k, wall_s=4500.0) for k in (0, 1)])
    assert "together 75 minutes;" in runs.spent([record(0, wall_s=4500.0)])


def test_a_timing_is_told_to_have_one_thread_whatever_its_process_has():
    two = {"threads": 2, "device": "a processor"}
    timing, chain = (record(0, kind=kind) | {"provenance": two} for kind in ("timing", "chain"))
    assert "; 1 thread each;" in runs.spent([timing])
    assert "; 1, 2 threads each;" in runs.spent([timing, chain])


def test_a_cell_with_a_line_break_stays_in_its_row():
    table = runs.markdown(["a", "b"], [["one\nof two lines", "2\u00a0%"]])
    assert table == "| a | b |\n|---|---|\n| one of two lines | 2\u00a0% |\n"
