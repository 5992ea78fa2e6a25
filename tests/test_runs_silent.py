"""What went through in silence, or failed after the training: cases, scores, arrays, keys, variables, links."""

import dataclasses
import itertools
import json
import linecache
import math
import os
import re
import shutil
import subprocess
import time

import numpy as np
import pytest

from companion import claims, runs, settings
from companion.runs import datasets, execution, provenance
from companion.runs import store as store_module
from companion.workflow import home
from lib import atomic, saving

BASE = {"experiment": "tiny", "data": {"name": "digits"}, "stages": [{"name": "train", "steps": 2}]}
BASE |= {"model": {"name": "mlp", "widths": [4], "inputs": 64, "outputs": 10}}


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPANION_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("COMPANION_TRAIN", raising=False)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"case": {"x": math.nan}}, "case must be finite numbers"),
        ({"case": {"x": np.int64(1)}}, "case must be finite numbers"),
        ({"case": {1: "x"}}, "case must be .*the key 1 is no string"),
        ({"case": ["x"]}, "case must be a dict"),
        ({"case": {"seed": 5}}, "case has 'seed', which is a column of every table"),
        ({"stages": [{"name": "train", "steps": 2, "scores": []}]}, "'train' has scores of no part"),
    ],
)
def test_a_configuration_that_a_table_would_show_wrong_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        runs.identity(BASE | changes)


def test_a_case_has_no_name_that_a_row_would_overwrite(store):
    (row,) = runs.run(BASE)["rows"]
    timing = {
        "experiment": "tiny",
        "kind": "timing",
        "data": BASE["data"],
        "model": BASE["model"],
        "variants": {"a": {}},
    }
    tried = [(BASE, name) for name in {*row, "dynamics", "fit", "widths", "alive_1e-3_free", "test_dice"} - {"steps"}]
    for config, name in [*tried, (timing, "penalty"), (timing, "step_s")]:
        with pytest.raises(ValueError, match=f"case has '{name}', which is a column of every table"):
            runs.identity(config | {"case": {name: 1}})
    assert runs.frame([runs.run(BASE | {"case": {"penalty": "GL", "steps": 2}})])["penalty"].tolist() == ["GL"]


def nothing(seed, **options):
    """For `runs.own`."""


def a_dict(seed, **options):
    """For `runs.own`."""
    return {"x": 1}


def numbers_of_numpy(seed, **options):
    """For `runs.own`."""
    return [{"x": np.float32(1)}]


@pytest.mark.parametrize("function", [nothing, a_dict, numbers_of_numpy])
def test_own_code_that_returns_no_rows_is_named(store, function):
    with pytest.raises(runs.RunError, match=rf"^{function.__name__} of .* has to return a list of dicts"):
        runs.run({"experiment": "own", **runs.own(function)})


@pytest.mark.parametrize("odd", [len, max, print])
def test_code_without_a_source_is_refused(odd):
    with pytest.raises(ValueError, match="own takes functions by their source"):
        runs.own(odd)


CELL = """
import functools, math, torch
K, up = 3, str.upper
@functools.cache
def twice(x):
    return 2 * x
{cell}
"""
USES = [
    ("def mine(seed): return [{'x': K}]", "K of the notebook"),
    ("def mine(seed): return [{'x': [K for _ in range(2)]}]", "K of the notebook"),
    ("def mine(seed): return [{'x': twice(seed)}]", "twice of the notebook"),
    ("def mine(seed): return [{'x': later}]", "later of the notebook"),
    ("def mine(seed, k=K): return [{'x': k}]", "a default that is not written out, K"),
    ("@torch.no_grad()\ndef mine(seed): return [{'x': K}]", "K of the notebook"),
    ("def around(k):\n  def mine(seed): return [{'x': k}]\n  return mine\nmine = around(K)", "k of the notebook"),
    ("mine = lambda seed: [{'x': 1}]", "written with def"),
    ("max = 5\ndef mine(seed): return [{'x': max}]", "max of the notebook"),
    ("def mine(seed):\n  class A:\n    K = K\n  return [{'x': A.K}]", "K of the notebook"),
    ("def mine(seed, k=(3, 4)): return [{'x': len(k), 'y': math.pi, 'z': up('a')}]", ""),
    ("def mine(seed):\n  class A:\n    K = 3\n    y = K\n  return [{'x': A.y + seed.K}]", ""),
]


@pytest.mark.parametrize(("cell", "told"), USES)
def test_own_code_of_a_notebook_uses_nothing_that_its_record_would_not_know(cell, told):
    text = CELL.format(cell=cell)
    linecache.cache["<cell>"] = (len(text), None, text.splitlines(keepends=True), "<cell>")
    space = {"__name__": "__main__"}
    exec(compile(text, "<cell>", "exec"), space)
    if told:
        with pytest.raises(ValueError, match=re.escape(told)):
            runs.own(space["mine"])
    if not told or "twice" in told:
        assert runs.own(space["mine"], space["twice"])["kind"] == "own"


def test_a_record_that_a_reader_changes_is_found_and_collected_as_it_was(store):
    config, other = BASE | {"seed": 0}, BASE | {"seed": 1}
    runs.run_all([config, other])
    runs.collect([config])
    before = runs.run(config)["rows"][0]["test_accuracy"]
    runs.run(config)["rows"][0]["test_accuracy"] = 9.0
    runs.collect([other])  # it writes the file of both anew
    assert runs.run(config)["rows"][0]["test_accuracy"] == before
    assert "9.0" not in (store / "tiny.jsonl").read_text(encoding="utf-8")


def test_what_is_no_list_of_records_is_said(store):
    record = runs.run(BASE)
    for given in (record, None, [record, None], [record["id"]], record["id"]):
        for table in (runs.frame, runs.spent):
            with pytest.raises(ValueError, match=r"a list of records is needed.*\[record\]"):
                table(given)
    with pytest.raises(ValueError, match=r"unknown claim 'p3\.1'; known: P1\.1"):
        claims.card("p3.1", [record])
    with pytest.raises(ValueError, match="these records have no 'penalty'; the rule is one of the records of p1_"):
        claims.card("P1.1", [record])


def test_options_whose_keys_would_become_strings_are_refused():
    with pytest.raises(ValueError, match="options must be .*the key 1 is no string"):
        runs.identity({"experiment": "own", **runs.own(nothing, table={1: 2})})
    with pytest.raises(ValueError, match="labels must be .*the key 0 is no string"):
        saving.save(None, "x", labels={0: "cat"})


def test_a_changed_number_in_the_arrays_of_a_record_is_noticed(store):
    zeroing = {"target": 0.5, "every": 1}
    stage = {"name": "train", "steps": 4, "zeroing": zeroing, "dynamics": {"frames": 2}}
    record = runs.run(BASE | {"stages": [stage]})
    (path,) = (store / "live" / "tiny").glob("*.npz")
    kept = runs.arrays(record)
    name = next(iter(kept))
    kept[name] = kept[name].copy()
    kept[name].flat[0] += 1
    np.savez_compressed(path, **kept)
    with pytest.raises(runs.RunError, match=r"\.npz is damaged: not as record .* was made with it; take it from git"):
        runs.arrays(record)


def test_records_on_another_disk_stay_there(store, tmp_path):
    far = tmp_path / "far.jsonl"
    far.write_text("")
    store.mkdir()
    (store / "tiny.jsonl").symlink_to(far)
    runs.run(BASE)
    runs.collect([BASE])
    assert (store / "tiny.jsonl").is_symlink() and json.loads(far.read_text())["status"] == "done"


def test_a_private_file_stays_private(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o600)
    atomic.write_whole(file, "new")
    assert file.read_text() == "new" and file.stat().st_mode & 0o777 == 0o600


def test_a_store_whose_name_is_too_long_is_named(monkeypatch):
    monkeypatch.setenv("COMPANION_RUNS", f"/tmp/{'x' * 300}")
    with pytest.raises(runs.RunError, match=r"xxx.* cannot be reached \(File name too long\)"):
        runs.find(BASE)


def other_data(monkeypatch):
    """The digits in another order, as another folder of data might have them."""
    load = datasets.load

    def shuffled(options):
        split = load(options)
        turned = type(split.train)(*(tensor.flip(0) for tensor in split.train))
        return dataclasses.replace(split, sha256="0" * 64, variant="other", train=turned)

    for module in (datasets, execution):
        monkeypatch.setattr(module, "load", shuffled)


def test_a_chain_that_was_killed_goes_on_with_its_own_data_alone(store, monkeypatch, capsys):
    two = BASE | {"stages": [{"name": "a", "steps": 2}, {"name": "b", "steps": 2}]}
    train_stage = execution.train_stage

    def killed(model, split, stage, **options):
        if stage.name == "b" and options.get("checkpoint"):  # not in the rehearsal
            raise KeyboardInterrupt
        return train_stage(model, split, stage, **options)

    monkeypatch.setattr(execution, "train_stage", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.run(two)
    monkeypatch.setattr(execution, "train_stage", train_stage)
    other_data(monkeypatch)
    record = runs.run(two)
    assert "0.pt was trained with other data, from another COMPANION_DATA: it is kept as" in capsys.readouterr().out
    monkeypatch.setenv("COMPANION_RUNS", str(store / "alone"))
    alone = runs.run(two)
    for one, same in zip(record["rows"], alone["rows"], strict=True):
        assert one["curves"] == same["curves"]


def test_records_made_with_different_data_are_told_apart(store, monkeypatch, capsys):
    """Two processes that share a store but not COMPANION_DATA: one waits for what the other trains."""
    seeds = [BASE | {"seed": k} for k in range(2)]
    runs.run_all(seeds[:1])
    assert "different data" not in capsys.readouterr().out
    other_data(monkeypatch)
    runs.run_all(seeds)
    said = capsys.readouterr().out
    assert "digits: these records were made with different data: " in said and "COMPANION_DATA names" in said
    monkeypatch.setattr(runs, "find", lambda this: next(found))  # what it waits for is there when the lock is free
    first = store_module.find(seeds[0])
    found = iter([None, first, first])
    runs.run(seeds[0])
    assert "different data: other (here); " in capsys.readouterr().out


def test_a_clock_that_goes_backwards_leaves_no_negative_times(store, monkeypatch):
    now = itertools.count(2e9, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    record = runs.run(BASE)
    os.utime(store / "live" / "tiny" / f"{record['id']}.json", (4e9, 4e9))
    assert 0 <= record["rows"][0]["train_s"] <= record["wall_s"] and runs.find(BASE)["rows"] == record["rows"]
    runs.collect([BASE])
    path = store / "tiny.jsonl"
    stamp, (line,) = path.stat(), path.read_text().splitlines()
    changed = store_module.record_line(runs.committed("tiny")[record["id"]] | {"seed": 7})
    beside = path.with_suffix(".other")  # as long as both are there, the file system gives them numbers of their own
    beside.write_text(changed + "\n")
    os.utime(beside, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    beside.replace(path)
    assert len(changed) == len(line) and runs.committed("tiny")[record["id"]]["seed"] == 7


@pytest.mark.parametrize("given", ["there ", " there\r\n", "there"])
def test_a_folder_is_seen_from_the_checkout_and_without_blanks(monkeypatch, given):
    monkeypatch.setenv("COMPANION_RUNS", given)
    assert settings.runs_folder() == settings.ROOT / "there"
    monkeypatch.setenv("COMPANION_RUNS", "  ")
    assert settings.runs_folder() == settings.ROOT / "data" / "runs"


def test_variables_that_mean_nothing_are_refused(monkeypatch):
    monkeypatch.setenv("COMPANION_DATA", "~nobody-of-that-name/data")
    with pytest.raises(ValueError, match="COMPANION_DATA='~nobody-of-that-name/data': there is no such user's home"):
        settings.data_folder()
    monkeypatch.setenv("COMPANION_COMMITTED", "true")
    with pytest.raises(ValueError, match="COMPANION_COMMITTED='true' is unknown"):
        settings.committed()


def git(folder, *words):
    around = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    options = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    done = subprocess.run(
        ["git", "-C", folder, *options, *words], env=around, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one source and one notebook, as ROOT."""
    folder = tmp_path / "checkout"
    for name in ("lib/a.py", "notebooks/01_name.ipynb", "requirements.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "all")
    monkeypatch.setattr(settings, "ROOT", folder)
    monkeypatch.setattr(provenance, "ROOT", folder)
    return folder


def test_an_untracked_source_is_seen_whatever_git_is_told_to_show(checkout):
    git(checkout, "config", "status.showUntrackedFiles", "no")
    assert provenance.sources()["git_clean"] and provenance.sources()["git"] == git(checkout, "rev-parse", "HEAD")
    (checkout / "lib" / "new").mkdir()
    (checkout / "lib" / "new" / "b.py").write_text("")
    assert not provenance.sources()["git_clean"] and settings.changes("lib") == "?? lib/new/b.py"


@pytest.mark.parametrize("ignored", [True, False])
def test_the_repository_around_a_checkout_is_not_asked(checkout, monkeypatch, ignored):
    shutil.rmtree(checkout / ".git")
    outer = checkout.parent
    (outer / ".gitignore").write_text("checkout\n" * ignored)
    git(outer, "init", "--quiet")
    git(outer, "add", ".")
    git(outer, "commit", "--quiet", "--message", "outer")
    told = provenance.sources()
    assert told["git"] == "unknown" and told["git_clean"] is False and settings.git("ls-files") is None
    monkeypatch.setenv("GIT_DIR", str(outer / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(checkout))
    assert provenance.sources() == told


def test_a_link_a_worktree_and_a_submodule_are_repositories_of_their_own(checkout, monkeypatch):
    here = provenance.sources()
    git(checkout, "worktree", "add", "--quiet", checkout.parent / "tree")
    git(checkout.parent, "init", "--quiet", "outer")
    git(checkout.parent / "outer", "submodule", "--quiet", "add", str(checkout), "part")
    (checkout.parent / "link").symlink_to(checkout)
    for place in ("tree", "outer/part", "link"):
        monkeypatch.setattr(settings, "ROOT", checkout.parent / place)
        assert provenance.sources() == here and here["git_clean"]


def test_a_record_of_another_version_stays_where_it_is(store, tmp_path, capsys):
    record = runs.run(BASE)
    record["config"]["stages"][0]["option of tomorrow"] = 1
    (tmp_path / "other" / "live" / "tiny" / "folder.json").mkdir(parents=True)
    (tmp_path / "other" / "live" / "tiny" / "0123.json").write_text(store_module.record_line(record))
    assert home.take_home(tmp_path / "other") == 0 and "not the record of its name" in capsys.readouterr().out


def test_the_arrays_of_every_committed_record_fit_their_checksum(monkeypatch):
    monkeypatch.delenv("COMPANION_RUNS", raising=False)
    folder, found = settings.runs_folder(), 0
    for experiment in sorted({path.parent.name for path in folder.glob("p*/*.npz")}):
        known = runs.committed(experiment)
        for path in (folder / experiment).iterdir():
            assert runs.arrays(known[path.stem]), f"{path} belongs to a record"
            found += 1
    assert found >= 10


@pytest.fixture
def old(store):
    """A copy of a committed record that is older than the checksums in records, of its arrays and of their list."""
    committed = settings.ROOT / "data" / "runs"
    (store / "p3_unet").mkdir(parents=True)
    for name in ("p3_unet.jsonl", store_module.LISTED, "p3_unet/4ed6bb8efcbc7522.npz"):
        shutil.copyfile(committed / name, store / name)
    return runs.committed("p3_unet")["4ed6bb8efcbc7522"]


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("p3_unet/4ed6bb8efcbc7522.npz", lambda old: old + b"\0", "not as record 4ed6bb8efcbc7522 was made with it"),
        (store_module.LISTED, lambda old: old.replace(b"e8effb0f", b"e8effb0e"), "not as record"),
        (store_module.LISTED, lambda old: old.replace(b"p3_unet/4ed6", b"p3_unet/4ed7"), "has no checksum of it"),
        (store_module.LISTED, lambda old: b"\xff", "has no checksum of it"),
    ],
)
def test_a_changed_byte_of_arrays_whose_record_has_no_checksum_is_noticed(store, old, name, change, why):
    assert "arrays" not in old["provenance"] and runs.arrays(old)
    (store / name).write_bytes(change((store / name).read_bytes()))
    with pytest.raises(runs.RunError, match=rf"4ed6bb8efcbc7522\.npz is damaged: .*{why}.*; take it from git"):
        runs.arrays(old)


def test_the_arrays_of_a_training_that_was_killed_are_not_those_of_the_record(store, old):
    """`fresh` trains what has a committed record; a kill may leave its arrays in the live store."""
    before = runs.arrays(old)
    (store / "live" / "p3_unet").mkdir(parents=True)
    np.savez_compressed(store / "live" / "p3_unet" / "4ed6bb8efcbc7522.npz", other=np.zeros(3))
    assert runs.arrays(old).keys() == before.keys()
