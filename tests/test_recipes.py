"""The recipes run as they stand, with fewer steps for ResNet-18, from a folder that is not the checkout, on PNGs.

`python tests/test_recipes.py` writes what they print into their pages.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.md") if path.stem != "README")


PRINTED = "On 200 handwritten digits of four kinds it printed, once:\n\n```text\n"


def printed(code, folder):
    """What the code of a recipe prints in a folder, beside pictures of scikit-learn's digits."""
    images, classes = load_digits(n_class=4, return_X_y=True)
    for k, (pixels, label) in enumerate(zip(images[:200], classes, strict=False)):
        path = folder / "pictures" / f"class {label}" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype("uint8").reshape(8, 8)).save(path)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1", "COLUMNS": "100"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout, done.stderr
    return done.stdout


def parts(page):
    """The text before the code, the code, what it printed, and the text behind."""
    before, code, behind = re.split(r"```python\n(.*?)```\n", page.read_text("utf-8"), flags=re.DOTALL)
    found = re.fullmatch(rf"\n{re.escape(PRINTED)}(.*?)```\n(.*)", behind, re.DOTALL)
    return before, code, *(found.groups() if found else ("", behind))


def words(text):
    """Words without numbers, which differ by machine and number of steps."""
    return re.sub(r"[-+\d.,%]+", " ", text).split()


@pytest.mark.parametrize("page", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_elsewhere_and_prints_what_its_page_says(page, tmp_path):
    _, code, said, _ = parts(page)
    assert words(printed(code.replace('"steps": 40', '"steps": 8'), tmp_path)) == words(said)


def test_the_list_of_recipes_is_whole():
    links = re.findall(r"\]\((\w+\.md)\)", (ROOT / "recipes" / "README.md").read_text("utf-8"))
    assert sorted(links) == [path.name for path in RECIPES]


if __name__ == "__main__":  # write what the recipes print into their pages
    for page in RECIPES:
        before, code, _, behind = parts(page)
        with tempfile.TemporaryDirectory() as folder:
            said = printed(code, Path(folder))
        page.write_text(f"{before}```python\n{code}```\n\n{PRINTED}{said}```\n{behind}", "utf-8")
