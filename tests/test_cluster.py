"""The engine is run: notebooks as jobs of a cluster, by Snakemake's cluster-generic executor and a submit script."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
SUBMIT = """\
#!/bin/sh
sh "$1" > "$1.out" 2>&1 &
echo $!
"""


@pytest.mark.parametrize("source", ["print(2 + 2)", "raise ValueError('no such data set')"], ids=["whole", "broken"])
def test_a_notebook_runs_as_a_job_of_a_cluster(tmp_path, source):
    cells = [nbformat.v4.new_code_cell(text) for text in ('profile = "laptop"\npart = "all"\nseeds = 3', source)]
    cells[0].metadata["tags"] = ["parameters"]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "01_a.ipynb")
    (tmp_path / "submit.sh").write_text(SUBMIT)
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--config", "profile=quick"]
    command += ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", "sh submit.sh", "--jobs", "1"]
    command += ["--latency-wait", "30"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ran = subprocess.run(
        [str(part) for part in command], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    said = ran.stdout + ran.stderr
    executed = tmp_path / "logs" / "quick" / "01_a.ipynb"
    if "raise" not in source:
        assert ran.returncode == 0, said
        assert nbformat.read(executed, as_version=4).cells[-1].outputs[0].text == "4\n"
    else:
        assert ran.returncode != 0
        assert "logs/quick/01_a.ipynb" in said, "the log of a broken job is named"
        assert "no such data set" in executed.read_text()
