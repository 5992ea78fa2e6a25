"""README and the overview: their tables and figures are what the records give, code runs, links lead somewhere."""

import ast
import io
import json
import re
import tokenize
from pathlib import Path

import nbformat
import pytest
from torch import nn

from companion import claims
from companion.workflow import front, readme
from lib import measures

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "figures"
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
QUIET = (tokenize.COMMENT, tokenize.INDENT)
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
BLOCKS = PYTHON.findall(TEXT)
(RUN,) = PYTHON.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))


CELLS = nbformat.read(ROOT / "notebooks/00_overview.ipynb", as_version=4).cells
OVERVIEW = [cell.source for cell in CELLS if cell.cell_type == "markdown"]


def test_tables_are_what_the_records_give():
    marks = [found[2] for found in readme.MARKED.finditer(TEXT)]
    assert marks == ["counts", "numbers", "verdicts", "comparison", "gallery"]
    assert readme.render(TEXT) == TEXT, "README.md has drifted from the records: run `make notebooks`"


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_the_card_of_a_claim_has_the_verdict_of_its_committed_records(name):
    claim = claims.CLAIMS[name]
    cells = nbformat.read(ROOT / "notebooks" / f"{claim.notebook}.ipynb", as_version=4).cells
    shown = [out.get("data", {}).get("text/markdown", "") for cell in cells for out in cell.get("outputs", ())]
    cards = [text for text in shown if text.startswith(f"> **{name}** ")]
    verdict = claim.verdict(claim.committed())[0]
    assert cards or verdict == claims.NOT_RUN, f"{claim.notebook} shows no card of {name}"
    for card in cards:
        assert f"**Verdict: {claims.SIGNS.get(verdict, '')}{verdict}**" in card


def test_the_front_page_is_short_and_opens_with_what_it_is():
    by_hand = readme.MARKED.sub("", TEXT)  # a claim more, or a method, adds a line to a table
    assert len(by_hand.splitlines()) <= 181
    headings = re.findall(r"^## (.*)", TEXT, re.MULTILINE)
    assert headings[:4] == ["What comes out", "Two commands", "Shrink a network of your own", "Three ideas"]
    assert "Limits" in headings
    first = TEXT[: TEXT.index("## What comes out")]
    assert "![" in first and TEXT.index("git clone") < TEXT.index("make lab")
    assert 8 <= len(front.GALLERY) <= 12


def code_lines(path):
    """How many lines hold code: no blank one, no comment, no docstring."""
    text = path.read_text(encoding="utf-8")
    told = [n.body[0] for n in ast.walk(ast.parse(text)) if isinstance(n, DOCUMENTED) and ast.get_docstring(n)]
    docstrings = {line for node in told for line in range(node.lineno, node.end_lineno + 1)}
    tokens = [
        t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.string.strip() and t.type not in QUIET
    ]
    return len({line for t in tokens for line in range(t.start[0], t.end[0] + 1)} - docstrings)


def test_the_method_is_as_short_as_it_says():
    paragraph = next(text for text in TEXT.split("\n\n") if "fewer than a thousand lines of code" in text)
    lib, paths = ROOT / "lib", []
    for name in re.findall(r"`([a-z/]+\.py)`", paragraph):  # `closed.py` lies where the one before it does
        beside = paths[-1].parent / name if paths else lib / name
        paths.append(beside if beside.is_file() else lib / name)
    assert len(paths) == 9 and 500 < sum(map(code_lines, paths)) < 1000


def test_claims_are_told_in_plain_words_and_findings_speak_of_their_verdict():
    for name, claim in claims.CLAIMS.items():
        says, finding = front.words(name, claim.says, claims.REPRODUCED)
        assert says and len(says) < 120
        told = front.plain().get(name, {})
        of, told = told.get("verdict"), told.get("finding", "")
        assert bool(of) == bool(told), f"{name}: a finding and the verdict that it speaks of go together"
        assert finding == (told if of == claims.REPRODUCED else "")
        assert not re.search(r"\d\.\d", told), f"{name}: numbers come from the records, not from a sentence"


def test_without_records_the_front_page_still_stands(monkeypatch, tmp_path):
    monkeypatch.setenv("COMPANION_RUNS", str(tmp_path))
    monkeypatch.setattr(front.runs, "committed", lambda _: {})
    assert len(front.numbers().splitlines()) == 2


def test_the_overview_shows_a_figure_of_every_notebook():
    marked = [found for text in OVERVIEW for found in readme.MARKED.finditer(text)]
    stems = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} - {"00_overview"}
    shown = [found[3] for found in marked]
    assert sorted(shown) == sorted(stems), "00_overview.ipynb has one pair of figure marks for every notebook"
    for text in OVERVIEW:
        assert readme.render(text) == text, "00_overview.ipynb has drifted from the notebooks: run `make notebooks`"
    unseen = [found[0] for found in marked if "Not run yet." in found[0] and list((FIGURES / found[3]).glob("*.png"))]
    assert not unseen, f"the overview says not run where there are figures: {unseen}"


def test_every_notebook_opens_with_what_was_found():
    of_claims = {claim.notebook for claim in claims.CLAIMS.values()}
    for path in sorted(set((ROOT / "notebooks").glob("*.ipynb")) - {readme.NOTEBOOKS / "00_overview.ipynb"}):
        first = nbformat.read(path, as_version=4).cells[0].source
        if path.stem in of_claims:
            (mark,) = readme.MARKED.finditer(first)
            assert (mark[2], mark[3]) == ("found", path.stem)
            assert readme.render(first) == first, f"{path.name} has drifted from the records: run `make notebooks`"
        assert "**What was found**" in first or path.stem == "40_playground"


def test_findings_tell_verdicts_and_how_often_rules_were_replaced():
    table = claims.pd.DataFrame(
        [
            {"claim": "P1.1", "says": "…", "notebook": "mine", "verdict": "inconclusive"},
            {"claim": "P2.4", "says": "…", "notebook": "mine", "verdict": "reproduced"},
            {"claim": "P2.5", "says": "…", "notebook": "another", "verdict": "reproduced"},
        ]
    )
    first, second = front.found(table, "mine").splitlines()[2:]
    assert first.startswith("- **P1.1** ")
    assert first.endswith(": *inconclusive*. Its rule was replaced 2 times after runs.")
    assert front.plain()["P2.4"]["finding"] in second and "✓ *reproduced*." in second
    amended = claims.pd.DataFrame(
        [("P2.4", "2026-11-29", "partly"), ("P2.4", "2026-11-28", "reproduced"), ("P1.1", "2026-11-28", "partly")],
        columns=["claim", "date", "old verdict"],
    )
    amended["new verdict"] = amended["claim"].map(dict(zip(table["claim"], table["verdict"], strict=True)))
    first, second = front.counts(table, amended).split(". ")
    assert first.startswith("Of the papers' 3 claims ") and first.endswith(": 2 reproduced, 1 inconclusive")
    told = "The rules of 2 of all 3 were replaced after runs; 2 of these had another verdict by an older rule.\n"
    assert second == told
    own = table.assign(claim=["P2.1 ℓ1", "P3.2", "P2.4"])
    told = front.counts(own, amended)
    assert "papers' 1 claims" in told and "; of the companion's own 2: 1 reproduced, 1 inconclusive. " in told


def test_each_side_has_a_sentence_that_speaks_of_how_its_claims_fared():
    for whose, group in front._sides(readme.overview()):
        assert front.words(whose, "", front._told(group))[1], f"plain.toml: {whose} has {front._told(group)} now"
    assert TEXT.count("<details><summary>") == len(front.TITLES)


def test_the_notebook_of_a_claim_names_it_and_says_what_was_chosen():
    for name, claim in claims.CLAIMS.items():
        cells = nbformat.read(ROOT / "notebooks" / f"{claim.notebook}.ipynb", as_version=4).cells
        code = "".join(cell.source for cell in cells if cell.cell_type == "code")
        assert f'"{name}"' in code, f"{claim.notebook} does not judge {name}"
        text = "".join(cell.source for cell in cells)
        stated = "What was chosen where" in text or "**Chosen here" in text
        assert stated or claim.paper not in claims.PAPERS, f"{claim.notebook} does not say what was chosen"


def test_the_code_of_the_front_page_shrinks_a_network(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(BLOCKS[0], names)
    dense, tuned = (names["found"].table.loc[which] for which in ("dense", "tuned"))
    assert tuned["operations"] <= 0.3 * dense["operations"]
    digits, small = names["digits"], names["again"]
    assert measures.parameters(small) == tuned["parameters"]
    assert type(small) is nn.Sequential and small[1].out_features < 300
    assert (small(digits.test.x).argmax(1) == digits.test.y).float().mean() > 0.9
    assert "tuned" in capsys.readouterr().out


def test_notebook_30_is_as_short_as_said():
    cells = json.loads((ROOT / "notebooks" / "30_your_own_network.ipynb").read_text(encoding="utf-8"))["cells"]
    (found,) = [cell["source"] for cell in cells if "def smaller(" in "".join(cell["source"])]
    assert "in under 30 lines" in TEXT and len("".join(found).splitlines()) < 30


def test_the_run_that_is_shown_is_a_valid_configuration(monkeypatch):
    from companion import runs

    seen = []
    monkeypatch.setattr(runs, "run", lambda config: seen.append(runs.resolve(config)) or {})
    with pytest.raises(ValueError, match="a list of records"):  # the print below it wants one
        exec(RUN, {})
    assert [stage["name"] for stage in seen[0]["stages"]] == ["train", "pruned", "tuned"]


@pytest.mark.parametrize(("texts", "folder"), [([TEXT], ROOT), (OVERVIEW, ROOT / "notebooks")])
def test_links_lead_to_files(texts, folder):
    pattern = r"\]\(([^)h#][^)]*)\)|(?:href|src)=\"(?!http)([^\"]+)\""
    targets = [text_link or tag for text in texts for text_link, tag in re.findall(pattern, text)]
    assert targets
    for target in targets:
        assert (folder / target.partition("#")[0]).exists(), target


def test_links_to_a_part_of_a_page_lead_to_a_heading():
    parts = re.findall(r"\]\(([\w/.]*)#([^)]+)\)", TEXT)
    assert ("CONTRIBUTING.md", "what-depgraphshrink-does-not-take-out") in parts
    for file, part in parts:
        headings = re.findall(r"^#+ (.*)", (ROOT / (file or "README.md")).read_text(encoding="utf-8"), re.MULTILINE)
        assert part in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings], part
