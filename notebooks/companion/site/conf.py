"""Sphinx reads this: one theme, the notebooks as they are committed, scripts from beside the pages."""

import re

project = "Compression companion"
author = "The companion's authors"
html_title = project
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx.ext.githubpages",
    "sphinx.ext.mathjax",
    "sphinx_codeautolink",
    "sphinx_copybutton",
]
exclude_patterns = ["README.md"]  # index.md includes it
suppress_warnings = ["config.cache", "mystnb.unknown_mime_type"]  # Vega-Lite: the page every_run draws it

# notebooks: nothing is executed, folded cells open on a click
nb_execution_mode = "off"
nb_code_prompt_show = "Show code"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # so that links in outputs lead to pages
myst_enable_extensions = ["dollarmath", "html_image", "deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# lib: docstrings are plain text with `names`
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
codeautolink_concat_default = True
codeautolink_autodoc_inject = True
codeautolink_warn_on_missing_inventory = False
codeautolink_warn_on_failed_resolve = False

# the pages' look, and scripts that stand beside them
html_theme = "furo"
html_css_files = ["companion.css"]
mathjax_path = "mathjax.js"
html_show_copyright = False
html_copy_source = False


def plain(app, what, name, obj, options, lines):
    """Docstrings are plain text: what Sphinx would take for markup of its own, outside of `names`, is escaped."""
    for k, line in enumerate(lines):
        parts = re.split(r"(`+[^`]+`+)", line)
        parts[::2] = [re.sub(r"[|*]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
        lines[k] = "".join(parts)


def linked(app, docname, content):
    """A notebook that another names is a link."""
    if docname.startswith("notebooks/"):
        content[0] = re.sub(r"(?<!\[)`(\d\d_\w+\.ipynb)`", r"[`\1`](\1)", content[0])


def setup(app):
    app.connect("autodoc-process-docstring", plain)
    app.connect("source-read", linked)
