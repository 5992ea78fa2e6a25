"""Write the table of verdicts, computed from the committed records, into README.md between its markers.

python .ci/readme.py
"""

import re
from pathlib import Path

from lib import claims

README = Path(__file__).resolve().parent.parent / "README.md"
MARKED = re.compile(r"(<!-- verdicts -->\n).*?(<!-- /verdicts -->)", re.DOTALL)


def render(text):
    """README's text with the table as the records have it now."""
    return MARKED.sub(lambda found: f"{found[1]}{claims.markdown()}{found[2]}", text)


if __name__ == "__main__":
    README.write_text(render(README.read_text(encoding="utf-8")), encoding="utf-8")
