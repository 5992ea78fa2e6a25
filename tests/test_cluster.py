"""The engine is run: notebooks as jobs of a cluster, by Snakemake's cluster-generic executor and a submit script."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
SUBMIT = """\
#!/bin/sh
sh "$1" > "$1.out" 2>&1 &
echo $!
"""


def test_notebooks_run_as_jobs_of_a_cluster(tmp_path):
    """One ends well; the other is broken, which is said with the path of its log."""
    (tmp_path / "notebooks").mkdir()
    for stem, source in {"01_whole": "print(2 + 2)", "02_broken": "raise ValueError('no such data set')"}.items():
        cells = [nbformat.v4.new_code_cell(text) for text in ('profile = "laptop"\npart = "all"\nseeds = 3', source)]
        cells[0].metadata["tags"] = ["parameters"]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / f"{stem}.ipynb")
    (tmp_path / "submit.sh").write_text(SUBMIT)
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--config", "profile=quick"]
    command += ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", "sh submit.sh", "--jobs", "2"]
    command += ["--latency-wait", "30", "--keep-going"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ran = subprocess.run(
        [str(part) for part in command], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    said, logs = ran.stdout + ran.stderr, tmp_path / "logs" / "quick"
    assert ran.returncode != 0, said
    assert nbformat.read(logs / "01_whole.ipynb", as_version=4).cells[-1].outputs[0].text == "4\n", said
    assert "logs/quick/02_broken.ipynb" in said, "the log of a broken job is named"
    assert "no such data set" in (logs / "02_broken.ipynb").read_text()
