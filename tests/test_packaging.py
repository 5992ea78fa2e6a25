"""The house: the lock, its conda twin, the declared imports, the commands and the notebooks' form."""

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from companion.workflow import launch, normalise

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.txt").read_text()
TEXTS = [*PROJECT["dependencies"], *(text for extra in PROJECT["optional-dependencies"].values() for text in extra)]
DECLARED = {canonicalize_name(Requirement(text).name): Requirement(text) for text in TEXTS}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def script(name):
    """A script of .ci/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(*arguments):
    """What make says, without running a recipe, whatever the make that runs these tests was given."""
    ours = ("MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "PROFILE", "FRESH", "ONLY", "SNAKEMAKE")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=env, capture_output=True, text=True)


def pins():
    """Every `name==version [; marker]` of the lock."""
    return [Requirement(line) for line in script("environment").pins(LOCK)]


def imported(source):
    """The top-level names that a piece of Python imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def code(path):
    """The Python of a file; of a notebook, its code cells without the lines that only IPython knows."""
    if path.suffix == ".py":
        return path.read_text()
    cells = nbformat.read(path, as_version=4).cells
    lines = "\n".join(cell.source for cell in cells if cell.cell_type == "code").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def test_environment_yml_is_what_the_lock_gives():
    written = (ROOT / "environment.yml").read_text()
    assert written == script("environment").render(), "environment.yml is stale: `make lock` renews it"
    listed = yaml.safe_load(written)["dependencies"]
    assert listed[-1]["pip"] == [*script("environment").pins(LOCK), "-e ."]


def test_every_dependency_is_locked_within_its_range():
    locked = {}
    for pin in pins():
        locked.setdefault(canonicalize_name(pin.name), []).append(pin)
    for name, declared in DECLARED.items():
        assert name in locked, f"{name} is declared but not locked: `make lock` renews requirements.txt"
        for pin in locked[name]:
            (version,) = pin.specifier
            assert version.version in declared.specifier, f"{pin} is outside of {declared}"


def test_every_locked_package_has_its_hashes_and_no_address():
    blocks = re.split(r"\n(?=[A-Za-z0-9])", LOCK)[1:]
    unhashed = [block.splitlines()[0] for block in blocks if not re.match(r"\S+==.*\n +--hash=sha256:", block)]
    assert len(blocks) == len(pins())
    assert not unhashed
    assert not re.search(r"://|--(extra-)?index|--find-links|/home/|/root/|/tmp/", LOCK)


def test_everything_imported_is_declared():
    homes = importlib.metadata.packages_distributions()
    files = [
        path for folder in ("lib", "notebooks/companion", "tests", ".ci") for path in (ROOT / folder).rglob("*.py")
    ]
    local = {"lib", "companion", *(path.stem for path in (ROOT / "tests").rglob("*.py")), "conftest"}
    for path in [*files, *NOTEBOOKS]:
        for name in set(imported(code(path))) - local - set(sys.stdlib_module_names):
            dists = {canonicalize_name(dist) for dist in homes.get(name, [name])}
            assert dists & set(DECLARED), (
                f"{path.relative_to(ROOT)} imports {name}, which pyproject.toml does not declare"
            )


def test_setup_takes_the_pythons_that_the_project_takes():
    setup, accepted = script("setup"), SpecifierSet(PROJECT["requires-python"])
    taken = [(3, minor) for minor in range(6, 30) if f"3.{minor}" in accepted]
    assert (taken[0], taken[-1]) == (setup.OLDEST, setup.NEWEST)
    matrix = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["check"]["strategy"]["matrix"]
    assert matrix["python"] == ["{}.{}".format(*version) for version in (setup.OLDEST, setup.NEWEST)]


def test_citation_names_the_project_and_the_three_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    text = json.dumps(citation["references"])
    assert all(paper in text for paper in ("2009.01395", "2109.05075", "2012.03827", "10.1016/j.neucom.2021.08.007"))


@pytest.mark.parametrize(
    "target", ["figures", "bench", "test", "lab", "notebooks", "site", "lock", "clean", "environment"]
)
def test_each_command_is_listed_and_expands(target):
    assert f"make {target} " in make("help").stdout
    assert make("-n", target).returncode == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("PROFILE=fast", "PROFILE=fast is unknown; known: laptop, paper, quick"),
        ("PROFILE=laptop paper", "PROFILE=laptop paper is unknown"),
        ("FRESH=1", "give PROFILE=laptop or PROFILE=paper"),
        ("FRESH=no", "FRESH=no must be 0 or 1"),
        ("FRESH=0 1", "FRESH=0 1 must be 0 or 1"),
        ("WRITE=false", "WRITE=false must be 0 or 1"),
        ("UPGRADE=yes", "UPGRADE=yes must be 0 or 1"),
        ("MINUTES=5 FRESH=1 PROFILE=paper", "MINUTES=5 goes with PROFILE and ONLY alone"),
        ("MINUTES=5 CORES=2", "MINUTES=5 goes with PROFILE and ONLY alone"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(given, told):
    said = make("figures", *re.split(r" (?=[A-Z])", given))
    assert said.returncode != 0
    assert told in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1


def test_a_switch_that_is_off_is_off():
    assert "--upgrade" in make("-n", "lock", "UPGRADE=1").stdout
    assert "--upgrade" not in make("-n", "lock", "UPGRADE=0").stdout
    assert "Protecting" in make("-n", "lab", "WRITE=0").stdout


@pytest.mark.parametrize("cores", ["0", "-1", "two", ""])
def test_a_number_of_cores_that_is_none_is_refused(cores):
    with pytest.raises(SystemExit, match=f"CORES={cores} is no number of cores; give a whole number from 1 on, or all"):
        launch.launch(cores, [], [])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied", "logs"), "logs cannot be written .Permission denied."),
        (KeyboardInterrupt(), "interrupted; what has been trained is kept"),
        (RuntimeError("Cannot close a running event loop"), "interrupted; what has been trained is kept"),
    ],
)
def test_what_ends_a_launch_is_one_line(tmp_path, monkeypatch, error, told):
    def ends(*_):
        raise error

    monkeypatch.setattr(launch, "RUNNING", tmp_path / "running")
    monkeypatch.setattr(launch, "prepare", lambda: None)
    monkeypatch.setattr(launch, "run", ends)
    with pytest.raises(SystemExit, match=told):
        launch.launch("1", [], [])


def test_sources_of_tomorrow_are_of_today(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    source, tomorrow = tmp_path / "lib" / "a.py", time.time() + 86_400
    source.write_text("")
    os.utime(source, (tomorrow, tomorrow))
    monkeypatch.chdir(tmp_path)
    for name in ("PATH", "HOME", "COMPANION_LAUNCHER"):
        monkeypatch.setenv(name, os.environ.get(name, str(tmp_path)))  # put back afterwards
    launch.prepare()
    assert source.stat().st_mtime <= time.time()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"3.11 0123\n"])
def test_a_strange_mark_of_an_environment_is_none(tmp_path, monkeypatch, content):
    setup = script("setup")
    monkeypatch.setattr(setup, "READY", tmp_path / ".ready")
    assert not setup.ready()
    setup.READY.write_bytes(content)
    assert not setup.ready()


def test_a_checkout_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    setup = script("setup")
    monkeypatch.setattr(setup, "ROOT", tmp_path / "nowhere")
    with pytest.raises(SystemExit, match="nowhere cannot be written"):
        setup.alone()


def test_actions_and_uv_are_pinned():
    used = re.findall(r"uses: (\S+)", (ROOT / ".github/workflows/ci.yml").read_text())
    assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in used)
    pinned = (ROOT / ".ci" / "uv.txt").read_text()
    assert re.match(r"uv==[\d.]+ ", pinned) and pinned.count("--hash=sha256:") > 10


def test_snakefile_plans_a_shard_for_every_seed(tmp_path):
    cell = nbformat.v4.new_code_cell('profile = "laptop"\npart = "all"\nseeds = 3\nfirst_seed = 2\n')
    book = nbformat.v4.new_notebook(cells=[cell])
    book.cells[0].metadata["tags"] = ["parameters"]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(book, tmp_path / "notebooks" / "01_a.ipynb")
    command = ["--snakefile", ROOT / "Snakefile", "--cores", "2", "--dry-run", "--config", "profile=laptop"]
    planned = subprocess.run(
        [sys.executable, "-m", "snakemake", *map(str, command)], cwd=tmp_path, capture_output=True, text=True
    )
    plan = planned.stdout + planned.stderr
    assert planned.returncode == 0, plan
    assert sorted(set(re.findall(r"01_a/(seed\d+|timing|figures)\.done", plan))) == [
        *("figures", "seed2", "seed3", "seed4", "timing")
    ]


def test_normalising_strips_what_a_run_would_change():
    output = nbformat.v4.new_output("execute_result", {"text/plain": "1"}, execution_count=7)
    output.data["application/vnd.jupyter.widget-view+json"] = {"model_id": "a1"}
    cell = nbformat.v4.new_code_cell("1", outputs=[output], execution_count=7)
    cell.metadata.update({"execution": {"iopub.execute_input": "now"}, "papermill": {}, "tags": ["parameters"]})
    book = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {}, "papermill": {"duration": 1}})
    clean = normalise.normalise(book)
    assert set(clean.metadata) == {"kernelspec", "language_info"}
    assert clean.cells[0].metadata == {"tags": ["parameters"]}
    assert clean.cells[0].execution_count == clean.cells[0].outputs[0].execution_count == 1
    assert clean.cells[0].outputs[0].data == {"text/plain": "1"}
    assert normalise.normalise(clean) == clean
    assert book.cells[0].execution_count == 7


def test_committed_notebooks_are_normalised():
    for path in NOTEBOOKS:
        book = nbformat.read(path, as_version=4)
        assert book == normalise.normalise(book), f"{path.name}: `make notebooks` normalises it"
        assert not normalise.machine_paths(book), f"{path.name} names a folder of this machine"


def test_notebook_runner_shows_the_error_and_keeps_the_notebook(tmp_path):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("raise ValueError('unknown data set x')")])
    nbformat.write(book, tmp_path / "01_bad.ipynb")
    command = [sys.executable, "-m", "companion.workflow.run", "01_bad.ipynb", "logs/out.ipynb", "--threads", "1"]
    ran = subprocess.run([str(part) for part in command], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "ValueError: unknown data set x" in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 3
    assert "unknown data set x" in (tmp_path / "logs/out.ipynb").read_text()
