"""The commands that `make` runs, given what they cannot do: each ends in one line that names the thing."""

import asyncio
import os
import runpy
import shlex
import shutil
import subprocess
import sys
from functools import partial

import nbformat
import pytest
from filelock import FileLock
from tornado.web import HTTPError

from companion import runs, settings, site
from companion.workflow import home, keep, lab, launch, normalise, readme, run, within

CONFIG = {"experiment": "tiny", "data": {"name": "digits"}, "model": {"name": "mlp", "widths": [4], "inputs": 64}}
CONFIG |= {"stages": [{"name": "train", "steps": 2}]}


def written(path, source="1"):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)
    return path


@pytest.mark.parametrize(
    ("source", "executed", "said"),
    [
        ("gone.ipynb", "out.ipynb", "gone.ipynb: No such file or directory"),
        ("notes.ipynb", "out.ipynb", "notes.ipynb is no notebook"),
        ("folder", "out.ipynb", "folder: Is a directory"),
        ("good.ipynb", "good.ipynb/out.ipynb", "good.ipynb: (Not a directory|File exists)"),
        ("good.ipynb", "full/out.ipynb", r"out.stderr: Is a directory"),
    ],
)
def test_a_notebook_or_a_log_that_cannot_be_had_is_one_line(tmp_path, monkeypatch, source, executed, said):
    written(tmp_path / "good.ipynb")
    (tmp_path / "notes.ipynb").write_bytes(b"\xff{")
    (tmp_path / "folder").mkdir()
    (tmp_path / "full" / "out.stderr").mkdir(parents=True)
    monkeypatch.setattr("sys.argv", ["run", str(tmp_path / source), str(tmp_path / executed)])
    monkeypatch.setattr(run.os, "environ", dict(os.environ))
    with pytest.raises(SystemExit, match=said) as told:
        run.main()
    assert "\n" not in str(told.value)


def called(monkeypatch, *given):
    monkeypatch.setattr("sys.argv", ["run", *map(str, given)])
    monkeypatch.setattr(run.os, "environ", dict(os.environ))
    with pytest.raises(SystemExit) as told:
        run.main()
    return told.value.code


def test_an_executed_notebook_takes_the_place_of_the_older_one_only_where_there_is_room(tmp_path, monkeypatch, capsys):
    source, out = written(tmp_path / "a.ipynb"), written(tmp_path / "out.ipynb", "older")
    before = source.read_bytes(), out.read_bytes()
    assert called(monkeypatch, source, tmp_path / "." / source.name) == 2
    assert f"{source} would be written over; name another file" in capsys.readouterr().err
    for odd, said in ((["x=1", "x=2"], "x is given twice"), (["--threads", "0"], "--threads must be 1 at least")):
        assert called(monkeypatch, source, out, *odd) == 2
        assert said in capsys.readouterr().err

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run.Path, "write_bytes", full)
    assert called(monkeypatch, source, out).startswith(f"{out}: No space left on device; make room")
    assert (source.read_bytes(), out.read_bytes()) == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is always full")
def test_a_log_that_has_no_room_leaves_the_error_on_the_terminal(tmp_path):
    (tmp_path / "out.stderr").symlink_to("/dev/full")
    source = written(tmp_path / "a.ipynb", "raise ValueError('→')")
    command = [sys.executable, "-m", "companion.workflow.run", source, tmp_path / "out.ipynb"]
    narrow = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=narrow)
    assert done.returncode == 1 and "FAILED: a\n  ValueError: \\u2192\n" in done.stderr


def test_records_to_throw_away_need_a_place(monkeypatch):
    def full():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(run.tempfile, "TemporaryDirectory", full)
    monkeypatch.setattr("sys.argv", ["run", "x.ipynb", "y.ipynb", "--scratch"])
    monkeypatch.setattr(run.os, "environ", dict(os.environ))
    with pytest.raises(SystemExit, match="--scratch: No usable temporary directory .*; let TMPDIR name a folder"):
        run.main()


def test_two_calls_at_once_are_told_even_before_the_first_has_said_who_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "RUNNING", tmp_path / "running")
    monkeypatch.setattr(launch, "prepare", lambda: None)
    with FileLock(tmp_path / "running.lock"), pytest.raises(SystemExit, match="another `make figures` is at work here"):
        launch.launch("1", [], [])


def test_two_sites_are_not_built_into_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "build", lambda *_: pytest.fail("it was built"))
    monkeypatch.setattr("sys.argv", ["site", str(tmp_path / "source"), str(tmp_path / "out")])
    with FileLock(tmp_path / "source.lock"), pytest.raises(SystemExit, match="another `make site` is at work on it"):
        runpy.run_module("companion.site.__main__", run_name="__main__")


@pytest.mark.parametrize(("content", "said"), [("", "is no notebook"), (None, "shows no chart of every run")])
def test_an_overview_without_its_chart_is_named(tmp_path, monkeypatch, content, said):
    (tmp_path / "notebooks").mkdir()
    path = written(tmp_path / "notebooks" / "00_overview.ipynb")
    path.write_text(path.read_text() if content is None else content)
    monkeypatch.setattr(site, "ROOT", tmp_path)
    with pytest.raises((SystemExit, ValueError), match=rf"00_overview\.ipynb {said}"):
        site.every_run(tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("tiny", "0123456789abcdef", "train", "../elsewhere"), "the network's file must be a name"),
        (("tiny", "0123456789abcdef", "train", "x"), "tiny has no record 0123456789abcdef; it has none"),
        (("p3_mlp_timing", None, "train", "x"), "is of the kind timing, which has no stages"),
        (("p3_mlp", None, "of another name", "x"), "has no stage 'of another name'; it has "),
    ],
)
def test_a_network_that_no_record_has_is_not_kept(tmp_path, monkeypatch, given, said):
    monkeypatch.delenv("COMPANION_RUNS", raising=False)
    monkeypatch.setattr(keep, "FOLDER", tmp_path)
    experiment, name, *rest = given
    with pytest.raises((SystemExit, ValueError, runs.RunError), match=said):
        keep.main(experiment, name or next(iter(runs.committed(experiment))), *rest)
    assert not list(tmp_path.iterdir())


def test_a_record_that_is_committed_is_not_replaced_by_that_of_another_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("COMPANION_TRAIN", raising=False)
    for place in ("there", "here"):
        monkeypatch.setenv("COMPANION_RUNS", str(tmp_path / place))
        runs.run(CONFIG)
    runs.collect([CONFIG])
    assert home.take_home(tmp_path / "there") == 0
    assert "there is a committed record of this run, which stays" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="give the folder data/runs of the other machine"):
        home.take_home(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become nobody")
def test_records_that_cannot_be_read_are_not_no_records(tmp_path):
    (tmp_path / "live" / "tiny").mkdir(parents=True)
    (tmp_path / "live" / "tiny").chmod(0)
    for folder in (tmp_path, *tmp_path.parents):
        if "pytest" in str(folder):  # those above are everybody's
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(SystemExit, match="tiny: Permission denied; make room, or make it readable"):
            home.take_home(tmp_path)
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("only", ["/x*", "**x", "[", "../notebooks/98"])
def test_names_that_no_notebook_has_are_said(only):
    with pytest.raises(ValueError, match="there is no notebooks/"):
        within.main(1.0, only=only)


def test_a_site_has_two_folders_or_none(monkeypatch):
    monkeypatch.setattr("sys.argv", ["site", "x"])
    with pytest.raises(SystemExit, match="give both folders or none"):
        runpy.run_module("companion.site", run_name="__main__")


def test_a_launch_without_its_arguments_shows_them():
    done = subprocess.run([sys.executable, launch.__file__], capture_output=True, text=True, cwd=settings.ROOT)
    assert done.returncode == 1 and "launch CORES" in done.stderr and "Traceback" not in done.stderr


NAMES = ("10 mine.ipynb", "11_ä.ipynb")


def test_committed_notebooks_of_any_name_and_by_any_way_are_read_only(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    for name in NAMES:
        written(tmp_path / "notebooks" / name)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "."], check=True)
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    monkeypatch.setattr(settings, "ROOT", tmp_path)  # where git is asked
    lab.committed.cache_clear()
    try:
        for root, before in ((tmp_path, "notebooks/"), (tmp_path, "/notebooks//"), (tmp_path / "notebooks", "")):
            manager = lab.Protecting(root_dir=str(root))
            for name in NAMES:
                for changed in (manager.save({}, before + name), manager.restore_checkpoint("x", before + name)):
                    with pytest.raises(HTTPError, match="is a committed notebook"):
                        asyncio.run(changed)
    finally:
        lab.committed.cache_clear()


@pytest.mark.parametrize(
    ("config", "source", "said"),
    [
        (["fresh=no"], None, "fresh=no must be 0 or 1"),
        (["profil=laptop"], None, "profil= is unknown; known: profile="),
        (["only=/x*"], None, "there is no notebooks//x*.ipynb"),
        (["profile=laptop"], "", "98_bad.ipynb has no parameters that can be read"),
        (["profile=laptop"], "x = 1", "98_bad.ipynb has no parameters that can be read"),
        (["profile=laptop"], "profile = part = 'all'\npart = 'all'\nseeds = 2.5", "no whole number of `seeds`"),
    ],
)
def test_the_snakefile_says_what_it_cannot_plan(tmp_path, config, source, said):
    shutil.copyfile(settings.ROOT / "Snakefile", tmp_path / "Snakefile")
    (tmp_path / "notebooks").mkdir()
    path = written(tmp_path / "notebooks" / "98_bad.ipynb", source or "profile = 'quick'\npart = 'all'\nseeds = 1")
    path.write_text(path.read_text() if source != "" else "garbage")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--quiet", "all", "--config", *config]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr + done.stdout


def test_a_notebook_whose_name_has_blanks_and_quotes_is_run(tmp_path):
    """The command that the Snakefile runs is read by a shell."""
    shutil.copyfile(settings.ROOT / "Snakefile", tmp_path / "Snakefile")
    (tmp_path / "notebooks").mkdir()
    written(tmp_path / "notebooks" / "50 it's mine.ipynb", "profile = part = 'quick'\nseeds = 1")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--printshellcmds"]
    done = subprocess.run([*command, "--config", "profile=quick"], cwd=tmp_path, capture_output=True, text=True)
    (line,) = [line for line in (done.stderr + done.stdout).splitlines() if "companion.workflow.run" in line]
    words = shlex.split(line.removeprefix("Shell command: "))
    assert words[3:5] == ["notebooks/50 it's mine.ipynb", "logs/quick/50 it's mine.ipynb"]


def test_what_is_made_afresh_of_one_profile_says_nothing_of_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = [tmp_path / f"logs/{profile}-fresh/01_x/figures.done" for profile in ("laptop", "paper")]
    for file in done:
        file.parent.mkdir(parents=True)
        file.touch()
    launch.forget(["profile=laptop", "fresh=1"])
    assert [file.exists() for file in done] == [False, True]


def test_what_is_made_afresh_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    """With FRESH=1 a notebook that was finished is not trained again, until all are finished; then it is."""
    shutil.copyfile(settings.ROOT / "Snakefile", tmp_path / "Snakefile")
    (tmp_path / "notebooks").mkdir()
    for name in ("50 a", "60 b"):
        written(tmp_path / "notebooks" / f"{name}.ipynb", "profile = 'laptop'\npart = 'all'\nseeds = 2")
    stub, called = tmp_path / "bin" / "python", tmp_path / "called"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$3" >> {called}\ncase "$3" in *60*) test ! -e {tmp_path}/broken;; esac\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        launch, "main", lambda given: sys.exit(subprocess.call([sys.executable, "-m", "snakemake", *given]))
    )

    def calls():
        called.unlink(missing_ok=True)
        with pytest.raises(SystemExit) as end:
            launch.run("1", ["profile=laptop", "fresh=1"], ["--quiet", "all"])
        made = called.read_text().split("\n") if called.is_file() else []
        return end.value.code, {name: made.count(f"notebooks/{name}.ipynb") for name in ("50 a", "60 b")}

    (tmp_path / "broken").touch()
    assert calls() == (1, {"50 a": 4, "60 b": 2}), "two seeds, timing and figures; the other one's seeds fail"
    (tmp_path / "broken").unlink()
    assert calls() == (0, {"50 a": 0, "60 b": 4})
    assert calls() == (0, {"50 a": 4, "60 b": 4})
    for name in ("50 a", "60 b"):  # killed after the last of them
        (tmp_path / "logs" / "laptop-fresh" / name / "figures.done").touch()
    assert calls() == (0, {"50 a": 0, "60 b": 0}), "nothing is left to do, once"
    assert calls() == (0, {"50 a": 4, "60 b": 4})


@pytest.mark.parametrize(
    ("module", "given", "said"),
    [
        ("companion.workflow.fold", [], "fold NOTEBOOK ...: give at least one"),
        ("companion.workflow.normalise", ["--check"], "NOTEBOOK ...: give at least one"),
        ("companion.claims", ["P1.1"], "takes no argument, got 'P1.1'"),
    ],
)
def test_a_command_that_is_given_too_little_or_too_much_says_so(module, given, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", [module, *given])
    for name in ("COMPANION_TRAIN", "TQDM_DISABLE", "COMPANION_COMMITTED"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # which normalise sets
    with pytest.raises(SystemExit, match=said):
        runpy.run_module(module, run_name="__main__")


@pytest.mark.parametrize(
    "command", [readme.main, partial(normalise.main, ["notebooks/40_playground.ipynb"], check=False)]
)
def test_what_is_committed_is_not_renewed_from_foreign_records(command, monkeypatch, tmp_path):
    before = (settings.ROOT / "README.md").read_bytes()
    for name in ("COMPANION_RUNS", "COMPANION_FIGURES"):
        monkeypatch.setenv(name, str(tmp_path))
        with pytest.raises(SystemExit, match=f"{name}=.* is not .* of this checkout.*unset it"):
            command()
        monkeypatch.delenv(name)
    assert (settings.ROOT / "README.md").read_bytes() == before
