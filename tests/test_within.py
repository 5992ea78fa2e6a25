"""A profile within so many minutes, and records that come home from another machine."""

import json

import pytest

from companion import runs, settings
from companion.workflow import home, within

CONFIG = {"experiment": "tiny", "data": {"name": "digits"}, "model": {"name": "mlp", "widths": [4], "inputs": 64}}
CONFIG |= {"stages": [{"name": "train", "steps": 2}]}


def test_the_most_wanted_come_first_and_every_notebook_comes():
    stems = [stem for stem, _ in within.tasks("*")]
    assert stems[: len(within.WANTED)] == [stem for stem, _ in within.WANTED]
    assert set(stems) == {path.stem for path in (settings.ROOT / "notebooks").glob("*.ipynb")}
    assert {stem for stem, _ in within.tasks("25*")} == {"25_full_size_stochastic"}


def test_no_notebook_starts_when_the_time_is_over(monkeypatch, capsys):
    monkeypatch.setattr(within.subprocess, "Popen", lambda *_, **__: pytest.fail("it started"))
    monkeypatch.setattr(within, "left", lambda stem, profile: ["1 of 6 runs of x have a record"])
    within.main(1e-9, only="25*")
    said = capsys.readouterr().out
    assert "0 records made" in said and "left in 25_full_size_stochastic: 1 of 6 runs of x have a record" in said


def test_records_come_home_whole_and_once(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("COMPANION_TRAIN", raising=False)
    monkeypatch.setenv("COMPANION_RUNS", str(tmp_path / "there"))
    record = runs.run(CONFIG)
    live = tmp_path / "there" / "live" / "tiny"
    (live / "0123456789abcdef.json").write_text((live / f"{record['id']}.json").read_text())  # not its name
    (live / "cut.json").write_text(json.dumps(record)[:100])
    monkeypatch.setenv("COMPANION_RUNS", str(tmp_path / "here"))
    monkeypatch.setenv("COMPANION_TRAIN", "never")
    assert home.take_home(tmp_path / "there") == 1 and home.take_home(tmp_path / "there") == 0
    said = capsys.readouterr().out
    assert runs.run(CONFIG)["rows"] == record["rows"]
    assert "not the record of its name" in said and "cut.json: not a whole record" in said
