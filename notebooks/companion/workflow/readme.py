"""Write what is computed from the records between its markers: README's parts, the overview's figures.

python -m companion.workflow.readme
"""

import json
import re
from functools import cache

import nbformat

from companion import claims
from companion.settings import ROOT
from companion.workflow import front, in_one_line, read_notebook
from lib.atomic import write_whole

README, OVERVIEW = ROOT / "README.md", ROOT / "notebooks" / "00_overview.ipynb"
MARKED = re.compile(
    r"(<!-- (numbers|verdicts|comparison|gallery|figure)(?: (\w+)/(\w+))? -->\n).*?(<!-- /\2 -->)", re.DOTALL
)

overview = cache(claims.overview)  # the table and every figure ask for it


def render(text):
    """The text with the tables and figures between its markers as the records have them now."""
    write = {"verdicts": lambda *_: front.verdicts(overview()), "numbers": lambda *_: front.numbers(), "figure": figure}
    write |= {"comparison": lambda *_: claims.budget.markdown(), "gallery": lambda *_: front.gallery()}
    return MARKED.sub(lambda found: f"{found[1]}{write[found[2]](found[3], found[4])}{found[5]}", text)


def figure(notebook, name):
    """The title of a notebook with a link, the verdicts of its claims and one of its figures, seen from notebooks/."""
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    title = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
    lines = [f"#### [{title}]({notebook}.ipynb)", ""]
    table = overview()
    for claim in table[table["notebook"] == notebook].itertuples():
        lines.append(f"- **{claim.claim}** {claim.says} *{claim.verdict.capitalize()}.*")
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    shown = {
        out["metadata"].get("figure"): "".join(out["data"]["text/markdown"])
        for out in outputs
        if out.get("metadata", {}).get("figure")
    }
    alt = shown.get(f"{notebook}/{name}", "").strip("*")
    return "\n".join([*lines, "", f"![{alt}](../figures/{notebook}/{name}.png)" if alt else "Not run yet.", ""])


@in_one_line()
def main():
    write_whole(README, render(README.read_text(encoding="utf-8")))
    book = read_notebook(OVERVIEW)
    for cell in book.cells:
        cell.source = render(cell.source)
    write_whole(OVERVIEW, nbformat.writes(book) + "\n")


if __name__ == "__main__":
    main()
