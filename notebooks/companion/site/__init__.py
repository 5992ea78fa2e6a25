"""The site: README, the notebooks with their committed outputs, the pages of `lib`, the data and a glossary, as HTML.

python -m companion.site                what `make site` runs; build/site is written anew, and nothing is executed
python -m companion.site SOURCE OUT     the same with other folders for what is gathered and for the pages
"""

import errno
import importlib
import json
import os
import pkgutil
import re
import shutil
from pathlib import Path

from companion.chart import MIME
from companion.settings import ROOT
from companion.workflow import read_notebook

HERE = Path(__file__).resolve().parent
SOURCE, OUT = ROOT / "build" / "site-source", ROOT / "build" / "site"
COPIED = ("README.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "data/README.md")
COPIED += ("recipes/*.md", "notebooks/*.ipynb")
COPIED += ("figures/*/*.png", "figures/*/*.svg", "figures/*/*.gif", "figures/*/*.csv", "data/published/*.csv")
SKIPPED = ("figures/quick/", "figures/custom/")
INTERNAL = ("arguments", "atomic", "checks", "layers")  # of lib: nothing that a reader calls
DRAW = """everyRun.width = "container";
vegaEmbed("#every-run", everyRun, {actions: {export: true, source: false, compiled: false, editor: false}});
"""
API_PAGE = """# lib.{name}

```{{eval-rst}}
.. automodule:: lib.{name}
   :imported-members:
   :exclude-members: {elsewhere}
```
"""
API_INDEX = """# The pages of lib

`lib` is the method and nothing else: no experiment, no path, no environment variable of its own. A name in a
notebook's code leads here, and each name here lists the notebooks that use it.

| module | what it is for |
|---|---|
{table}
```{{toctree}}
:hidden:

{names}
```
"""


def gather(source=SOURCE):
    """Lay out in one folder what the site shows, each file where it is in the checkout, so that links hold."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(HERE / "pages", source)
    for path in (path for pattern in COPIED for path in sorted(ROOT.glob(pattern))):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(SKIPPED):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, source / name)
    readme = source / "README.md"  # Sphinx follows the links of Markdown, not those of HTML
    text = re.sub(r'href="(notebooks/\w+)\.ipynb"', r'href="\1.html"', readme.read_text(encoding="utf-8"))
    pages = (HERE / "pages").relative_to(ROOT).as_posix()  # the site has them at its top
    readme.write_text(text.replace(f"({pages}/", "("), encoding="utf-8")
    scripts(source / "_scripts")
    every_run(source / "_scripts")
    reference(source / "api")
    return source


def scripts(folder):
    """Write MathJax and Vega-Lite, which locked packages hold, each with its licence: pages need no network."""
    import vl_convert

    folder.mkdir(parents=True)
    (package,) = importlib.import_module("mathjax").__path__
    mathjax = Path(package) / "static" / "mathjax"
    shutil.copyfile(mathjax / "es5" / "tex-svg.js", folder / "mathjax.js")
    shutil.copyfile(mathjax / "LICENSE", folder / "mathjax-licence.txt")
    bundle = vl_convert.javascript_bundle(vl_version="5.20")
    (folder / "vega.js").write_text(f"(() => {{\n{bundle}\n}})();\n", encoding="utf-8")  # its names are its own
    (folder / "vega-licence.txt").write_text(vega_licences(), encoding="utf-8")


def vega_licences():
    """The licences of Vega, Vega-Lite and vega-embed, as JupyterLab, which holds them too, lists them."""
    import jupyterlab

    listed = Path(jupyterlab.__file__).parent / "static" / "third-party-licenses.json"
    packages = json.loads(listed.read_text(encoding="utf-8"))["packages"]
    found = [package for package in packages if package["name"] in ("vega", "vega-lite", "vega-embed")]
    return "\n\n".join(f"{package['name']}\n\n{package['extractedText']}" for package in found)


def every_run(folder):
    """Write the chart of every run, as notebook 00 was committed with it, as a script: a page without a server."""
    overview = ROOT / "notebooks" / "00_overview.ipynb"
    outputs = [output.get("data", {}) for cell in read_notebook(overview).cells for output in cell.get("outputs", [])]
    if not (specs := [data[MIME] for data in outputs if MIME in data]):
        raise ValueError(f"{overview} shows no chart of every run; `make notebooks` draws it")
    (folder / "every_run.js").write_text(f"const everyRun = {json.dumps(specs[0])};\n{DRAW}", encoding="utf-8")


def reference(folder):
    """Write a page for every module and package that `lib` offers, and their index."""
    import lib

    folder.mkdir()
    names = [module.name for module in pkgutil.iter_modules(lib.__path__) if module.name not in INTERNAL]
    modules = {name: importlib.import_module(f"lib.{name}") for name in names}
    for name, module in modules.items():
        page = API_PAGE.format(name=name, elsewhere=", ".join(borrowed(name, module)))
        (folder / f"{name}.md").write_text(page, encoding="utf-8")
    told = {name: module.__doc__.strip().splitlines()[0] for name, module in modules.items()}
    table = "".join(f"| [lib.{name}]({name}.md) | {first} |\n" for name, first in told.items())
    (folder / "index.md").write_text(API_INDEX.format(table=table, names="\n".join(names)), encoding="utf-8")


def borrowed(name, module):
    """What a module of `lib` has imported from elsewhere: another page describes it, or none."""
    for member in vars(module):
        home = getattr(getattr(module, member), "__module__", "")
        if not f"{home}.".startswith(f"lib.{name}."):
            yield member


def build(source=SOURCE, out=OUT):
    """Build the site with Sphinx, where a warning is an error. Returns its exit code, 0 where all is well.

    An older site stays until the new one is whole. OSError: what lies in the place of a folder is none, and stays.
    """
    from sphinx.cmd.build import build_main

    fresh = out.with_name(f"{out.name}.new")
    for folder in (source, fresh, out):
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):  # rmtree waits for ever at a pipe
            raise NotADirectoryError(errno.ENOTDIR, "it is no folder", str(folder))
    gather(source)
    shutil.rmtree(fresh, ignore_errors=True)
    options = ["--fail-on-warning", "--quiet", "--conf-dir", str(HERE), "--doctree-dir", f"{source}-cache"]
    options += ["--define", f"html_static_path={HERE / 'static'},{source / '_scripts'}"]
    failed = build_main([*options, str(source), str(fresh)])
    shutil.rmtree(fresh if failed else out, ignore_errors=True)
    if not failed:
        fresh.rename(out)
    return failed
