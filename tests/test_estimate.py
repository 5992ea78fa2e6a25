"""What is said before a long training."""

import pytest

from companion.runs import estimate


class Run:
    def __init__(self, experiment, steps):
        self.config = {"experiment": experiment, "stages": [{"steps": steps, "batch": 100}, {"prune": {}, "steps": 0}]}
        if experiment == "own":
            self.config["stages"] = None


@pytest.fixture(autouse=True)
def recorded(monkeypatch):
    records = {
        k: {"wall_s": wall, "config": {"stages": [{"steps": 1000, "batch": 100}]}} for k, wall in enumerate((9, 10, 40))
    }
    own = {"a": {"wall_s": 50, "config": {"code": "f-1"}}}
    known = {"known": records, "own": own}
    monkeypatch.setattr(estimate, "committed", lambda name: known.get(name, {}))


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([Run("known", 5000)], None),  # 50 seconds
        ([Run("known", 60_000), Run("known", 12_000)], "about 12 minutes for 2, at the pace of the recorded runs"),
        ([Run("new", 500)], None),
        ([Run("own", 0)], None),
        ([Run("own", 0)] * 6, "about 5 minutes for 6, at the pace of the recorded runs"),
        ([Run("new", 30_000)], "30,000 training steps of which no recorded run tells the pace"),
        ([], None),
    ],
)
def test_a_long_training_is_announced_by_the_pace_of_what_is_recorded(runs, said, capsys):
    estimate.tell(runs)
    told = capsys.readouterr().out.strip()
    assert told == (f"{len(runs)} runs have no record and are trained now: {said}" if said else "")
