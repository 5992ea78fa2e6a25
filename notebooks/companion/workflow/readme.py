"""Write what is computed from the records between its markers: in README, the overview and all notebooks' first cells.

python -m companion.workflow.readme
"""

import json
import re
from functools import cache

import nbformat

from companion import claims
from companion.settings import ROOT
from companion.workflow import front, in_one_line, own_folders, read_notebook
from lib.atomic import write_whole

README, NOTEBOOKS = ROOT / "README.md", ROOT / "notebooks"
MARKED = re.compile(
    r"(<!-- (counts|numbers|verdicts|comparison|gallery|found|figure)(?: (\w+)(?:/(\w+))?)? -->\n).*?(<!-- /\2 -->)",
    re.DOTALL,
)

overview = cache(claims.overview)  # the table and every figure ask for it
amended = cache(lambda: claims.amendments.table(claims.CLAIMS))


def render(text):
    """The text with what stands between its markers as the records have it now."""
    write = {"verdicts": lambda *_: front.verdicts(overview()), "numbers": lambda *_: front.numbers(), "figure": figure}
    write |= {"comparison": lambda *_: claims.budget.markdown(), "gallery": lambda *_: front.gallery()}
    write |= {
        "counts": lambda *_: front.counts(overview(), amended()),
        "found": lambda name, _: front.found(overview(), name),
    }
    return MARKED.sub(lambda found: f"{found[1]}{write[found[2]](found[3], found[4])}{found[5]}", text)


def figure(notebook, name):
    """The title of a notebook with a link, the verdicts of its claims and one of its figures, seen from notebooks/."""
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
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
    own_folders()
    write_whole(README, render(README.read_text(encoding="utf-8")))
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        book = read_notebook(path)
        before = [cell.source for cell in book.cells]
        for cell in book.cells:
            cell.source = render(cell.source)
        if [cell.source for cell in book.cells] != before:
            write_whole(path, nbformat.writes(book) + "\n")


if __name__ == "__main__":
    main()
