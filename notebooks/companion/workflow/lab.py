"""JupyterLab's files, with the committed notebooks read-only: they run, but what is changed is saved as another file.

`make lab` uses it; `make lab WRITE=1` does not.
"""

from functools import cache
from pathlib import Path

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.web import HTTPError

from companion.settings import ROOT, git


@cache
def committed():
    """The paths of the committed notebooks; without git, or where it knows none, of all that are there at the start."""
    if not (tracked := git("ls-files", "-z", "notebooks/*.ipynb")):  # -z: names as they are, of any letters
        return frozenset(path.resolve() for path in (ROOT / "notebooks").glob("*.ipynb"))
    return frozenset((ROOT / name).resolve() for name in tracked.split("\0") if name)


class Protecting(AsyncLargeFileManager):
    """A contents manager that saves, moves and deletes no committed notebook, nor a folder with one in it."""

    async def get(self, path, *arguments, **options):
        """The file; a committed notebook is said to be read-only, which ends JupyterLab's automatic saving."""
        model = await super().get(path, *arguments, **options)
        return model | ({"writable": False} if self._place(path) in committed() else {})

    async def save(self, model, path=""):
        """Save a file. HTTPError 403: it is a committed notebook."""
        self.refuse(path)
        return await super().save(model, path)

    async def restore_checkpoint(self, checkpoint_id, path):
        """Take a file back to what it was. HTTPError 403: it is a committed notebook."""
        self.refuse(path)
        return await super().restore_checkpoint(checkpoint_id, path)

    async def rename_file(self, old_path, new_path):
        """Rename a file or folder. HTTPError 403: a committed notebook would go."""
        self.refuse(old_path)
        return await super().rename_file(old_path, new_path)

    async def delete_file(self, path):
        """Delete a file or folder. HTTPError 403: a committed notebook would go."""
        self.refuse(path)
        return await super().delete_file(path)

    def _place(self, path):
        """Where a path of JupyterLab's leads, whatever its root."""
        return Path(self._get_os_path(path.strip("/"))).resolve()

    def refuse(self, path):
        """HTTPError 403: a path leads to a committed notebook, or to a folder with one in it."""
        place, theirs = self._place(path), committed()
        if place in theirs:
            remedy = "File > Save Notebook As... keeps yours, `make lab WRITE=1` lets you change it"
            raise HTTPError(403, f"{path} is a committed notebook: {remedy}")
        if any(place in notebook.parents for notebook in theirs):
            raise HTTPError(403, f"{path} has committed notebooks in it; `make lab WRITE=1` lets you change them")
