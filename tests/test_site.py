"""The site: built without a warning, every link inside it leads somewhere, and no page asks a network for anything."""

import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from filelock import FileLock

from companion import site

ROOT = Path(__file__).resolve().parent.parent
STEMS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        elif tag in ("img", "script", "iframe", "source") and attrs.get("src"):
            self.loads.append(attrs["src"])
        elif tag == "link" and attrs.get("rel") == "stylesheet":
            self.loads.append(attrs["href"])


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """The built pages by path, built once for all workers of pytest; Sphinx has a process, which a warning ends."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    source, out, built = (shared / f"site-{name}" for name in ("source", "out", "built"))
    with FileLock(shared / "site.lock"):
        if not built.exists():
            command = [sys.executable, "-m", "companion.site", str(source), str(out)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            built.touch()
    return {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in out.rglob("*.html")}, out.resolve()


def test_every_notebook_and_module_has_its_page(pages):
    found, out = pages
    names = {path.relative_to(out).as_posix() for path in found}
    assert {"index.html", "glossary.html", "every_run.html", "data/README.html"} <= names
    assert {f"recipes/{path.stem}.html" for path in (ROOT / "recipes").glob("*.md")} <= names
    assert {f"notebooks/{stem}.html" for stem in STEMS} <= names
    assert {"api/regularizers.html", "api/pruning.html", "api/shrinking.html"} <= names


def test_links_inside_lead_somewhere(pages):
    found, _ = pages
    broken = []
    for path, page in found.items():
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = file in found and (not parts.fragment or unquote(parts.fragment) in found[file].anchors)
            if not there and not (file.suffix != ".html" and file.exists()):
                broken.append(f"{path.name}: {target}")
    assert not broken


def test_no_page_asks_a_network(pages):
    found, out = pages
    asked = {f"{path.name}: {src}" for path, page in found.items() for src in page.loads if re.match(r"(\w+:)?//", src)}
    assert not asked
    for style in out.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text(encoding="utf-8")), style
    assert (out / "_static" / "mathjax.js").stat().st_size > 10**6


def test_a_notebook_leads_to_the_pages_of_lib_and_back(pages):
    found, out = pages
    there = found[out / "notebooks" / "10_l0_penalty.html"].links
    assert "../api/regularizers.html#lib.regularizers.l0" in there
    back = found[out / "api" / "regularizers.html"].links
    assert any(link.startswith("../notebooks/10_l0_penalty.html") for link in back)


def test_plumbing_is_folded(pages):
    _, out = pages
    page = (out / "notebooks" / "10_l0_penalty.html").read_text(encoding="utf-8")
    assert page.count("<details") >= 5


def test_every_module_of_lib_is_shown_or_internal():
    modules = {
        path.stem for path in (ROOT / "lib").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set(site.INTERNAL) <= modules


@pytest.mark.parametrize("failed", [0, 1])
def test_an_older_site_stays_until_the_new_one_is_whole(failed, tmp_path, monkeypatch):
    out = tmp_path / "site"
    out.mkdir()
    (out / "index.html").write_text("old")

    def built(given):
        Path(given[-1]).mkdir()
        (Path(given[-1]) / "index.html").write_text("new")
        return failed

    monkeypatch.setattr(site, "gather", lambda source: source)
    monkeypatch.setattr("sphinx.cmd.build.build_main", built)
    assert site.build(tmp_path / "source", out) == failed
    assert (out / "index.html").read_text() == ("old" if failed else "new") and list(tmp_path.iterdir()) == [out]


def test_a_full_disk_is_one_line_that_names_what_could_not_be_written(tmp_path, monkeypatch):
    def full(source, out):
        raise OSError(28, "No space left on device", "README.md", None, str(source / "README.md"))

    monkeypatch.setattr(site, "build", full)
    monkeypatch.setattr("sys.argv", ["site", str(tmp_path), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=rf"out is left as it was: {tmp_path}/README.md cannot be written \(No space"):
        runpy.run_module("companion.site.__main__", run_name="__main__")


@pytest.mark.parametrize("name", ["source", "out", "out.new"])
@pytest.mark.parametrize("kind", ["pipe", "file", "link", "dangling link"])
def test_what_lies_in_the_place_of_a_folder_is_named_and_stays(name, kind, tmp_path, monkeypatch):
    """At a pipe rmtree waits for ever."""
    place = tmp_path / name
    if kind == "pipe":
        getattr(os, "mkfifo", Path.touch)(place)
    elif kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to("elsewhere" if "dangling" in kind else tmp_path.parent)
    monkeypatch.setattr("sys.argv", ["site", str(tmp_path / "source"), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=rf"out is left as it was: {place} cannot be written \(it is no folder\)"):
        runpy.run_module("companion.site.__main__", run_name="__main__")
    assert list(tmp_path.iterdir()) == [place]
