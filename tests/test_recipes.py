"""The recipes run as they stand, with fewer steps for ResNet-18, from a folder that is not the checkout, on PNGs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.md") if path.stem != "README")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_elsewhere(page, tmp_path):
    images, classes = load_digits(n_class=4, return_X_y=True)
    for k, (pixels, label) in enumerate(zip(images[:200], classes, strict=False)):
        path = tmp_path / "pictures" / f"class {label}" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype("uint8").reshape(8, 8)).save(path)
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    code = code.replace('"steps": 40', '"steps": 8')
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout, done.stderr


def test_the_list_of_recipes_is_whole():
    links = re.findall(r"\]\((\w+\.md)\)", (ROOT / "recipes" / "README.md").read_text("utf-8"))
    assert sorted(links) == [path.name for path in RECIPES]
