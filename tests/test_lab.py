"""JupyterLab with the committed notebooks read-only."""

import asyncio
import shutil

import pytest
from tornado.web import HTTPError

from companion import settings
from companion.settings import ROOT
from companion.workflow import lab

NAME = "10_l0_penalty.ipynb"


def test_committed_notebooks_open_read_only_and_copies_do_not(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    for name in (NAME, "mine.ipynb"):
        shutil.copy(ROOT / "notebooks" / NAME, tmp_path / "notebooks" / name)
    assert ROOT / "notebooks" / NAME in lab.committed()
    monkeypatch.setattr(lab, "committed", lambda: {tmp_path / "notebooks" / NAME})
    manager = lab.Protecting(root_dir=str(tmp_path))
    theirs, mine = (asyncio.run(manager.get(f"notebooks/{name}")) for name in (NAME, "mine.ipynb"))
    assert not theirs["writable"] and mine["writable"]
    before = (tmp_path / "notebooks" / NAME).read_bytes()
    with pytest.raises(HTTPError, match="is a committed notebook: File > Save Notebook As"):
        asyncio.run(manager.save(theirs, f"/notebooks/{NAME}"))
    assert (tmp_path / "notebooks" / NAME).read_bytes() == before
    for way, place in ((manager.delete, NAME), (manager.delete, ""), (manager.rename, NAME), (manager.rename, "")):
        with pytest.raises(HTTPError, match="is a committed notebook|has committed notebooks in it"):
            asyncio.run(way(f"notebooks/{place}", *["notebooks/other.ipynb"] * (way == manager.rename)))
    assert (tmp_path / "notebooks" / NAME).read_bytes() == before
    mine["content"]["cells"][0]["source"] = "# Mine"
    asyncio.run(manager.save(mine, "notebooks/mine.ipynb"))
    assert "# Mine" in (tmp_path / "notebooks" / "mine.ipynb").read_text()
    asyncio.run(manager.rename("notebooks/mine.ipynb", "notebooks/ours.ipynb"))
    asyncio.run(manager.delete("notebooks/ours.ipynb"))
    assert [path.name for path in (tmp_path / "notebooks").glob("*.ipynb")] == [NAME]


def test_a_repository_that_knows_no_notebook_protects_all_that_are_there(monkeypatch):
    monkeypatch.setattr(lab, "git", lambda *_: "")
    lab.committed.cache_clear()
    assert ROOT / "notebooks" / NAME in lab.committed()
    lab.committed.cache_clear()


def test_without_git_all_notebooks_that_are_there_count(monkeypatch):
    def missing(*_, **__):
        raise OSError("git")

    monkeypatch.setattr(settings.subprocess, "run", missing)
    lab.committed.cache_clear()
    assert ROOT / "notebooks" / NAME in lab.committed()
    lab.committed.cache_clear()
