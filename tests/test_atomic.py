"""Files are written whole: what a full disk leaves, and that nobody writes one in another way."""

import json
import re
from pathlib import Path

import pytest

from lib.atomic import write_whole

ROOT = Path(__file__).resolve().parent.parent
PLAIN = re.compile(
    r"\.write_(?:bytes|text)\(|\bopen\([^)]*[\"'][wax]|nbformat\.write\(|np\.savez?\(|\.to_csv\((?!index)|save_file\("
)
ELSEWHERE = {  # and what makes it whole there
    "lib/atomic.py": "renamed afterwards",
    "lib/data/download.py": "in a folder whose files are moved when they are whole",
    "notebooks/companion/workflow/run.py": "a log, which grows",
    "notebooks/companion/site/__init__.py": "in a folder that is made anew each time",
    "notebooks/30_your_own_network.ipynb": "what a reader would write, into a folder of its own",
}


def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path, monkeypatch):
    file = tmp_path / "figure.svg"
    write_whole(file, "old")

    def full(path, content):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: .*figure\.svg"):
        write_whole(file, "new")
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_nobody_writes_a_file_in_another_way():
    code = [*ROOT.glob("lib/**/*.py"), *ROOT.glob("notebooks/companion/**/*.py"), *ROOT.glob("notebooks/*.ipynb")]
    found = {path.relative_to(ROOT).as_posix() for path in code if PLAIN.search(sources(path))}
    assert found == set(ELSEWHERE)


def sources(path):
    """Code, of a notebook that of its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return "".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
