"""README: its table is what the records give, its code runs, its links lead somewhere."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_table_of_verdicts_is_what_the_records_give():
    spec = importlib.util.spec_from_file_location("readme", ROOT / ".ci" / "readme.py")
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    assert readme.render(TEXT) == TEXT, "README.md has drifted from the records: run `make notebooks`"


def test_the_take_home_code_runs_and_shrinks(capsys):
    names = {}
    exec(BLOCKS[0], names)
    net, small, digits = names["net"], names["small"], names["digits"]
    assert sum(small.config["widths"]) < sum(net.config["widths"])
    outputs = [model(digits.test.x) for model in (net, small)]
    assert (outputs[0] - outputs[1]).abs().max() < 1e-4 * outputs[0].abs().max()
    assert (outputs[1].argmax(1) == digits.test.y).float().mean() > 0.9
    assert "shrunk" in capsys.readouterr().out


def test_notebook_30_is_as_short_as_said():
    cells = json.loads((ROOT / "notebooks" / "30_your_own_network.ipynb").read_text(encoding="utf-8"))["cells"]
    (found,) = [cell["source"] for cell in cells if "def smaller(" in "".join(cell["source"])]
    assert "in under 30 lines" in TEXT and len("".join(found).splitlines()) < 30


def test_the_run_of_the_readme_is_a_valid_configuration(monkeypatch):
    from lib import runs

    seen = []
    monkeypatch.setattr(runs, "run", lambda config: seen.append(runs.resolve(config)) or {})
    with pytest.raises(KeyError):  # the print below it wants a record
        exec(BLOCKS[1], {})
    assert [stage["name"] for stage in seen[0]["stages"]] == ["train", "pruned", "tuned"]


def test_links_lead_to_files():
    for target in re.findall(r"\]\(([^)h#][^)]*)\)", TEXT):
        assert (ROOT / target).exists(), target
