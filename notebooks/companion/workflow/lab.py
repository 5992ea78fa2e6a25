"""JupyterLab's files, with the committed notebooks read-only: they run, but what is changed is saved as another file.

`make lab` uses it; `make lab WRITE=1` does not.
"""

from functools import cache

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.web import HTTPError

from companion.settings import ROOT, git


@cache
def committed():
    """The paths of the committed notebooks, seen from the checkout; without git, of all that are there at the start."""
    if (tracked := git("ls-files", "notebooks/*.ipynb")) is not None:
        return frozenset(tracked.split())
    return frozenset(f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb"))


class Protecting(AsyncLargeFileManager):
    """A contents manager that saves no committed notebook."""

    async def get(self, path, *arguments, **options):
        """The file; a committed notebook is said to be read-only, which ends JupyterLab's automatic saving."""
        model = await super().get(path, *arguments, **options)
        return model | ({"writable": False} if path.strip("/") in committed() else {})

    async def save(self, model, path=""):
        """Save a file. HTTPError 403: it is a committed notebook."""
        if path.strip("/") in committed():
            remedy = "File > Save Notebook As... keeps yours, `make lab WRITE=1` lets you change it"
            raise HTTPError(403, f"{path} is a committed notebook: {remedy}")
        return await super().save(model, path)
