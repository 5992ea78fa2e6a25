"""Files are written whole: what a full disk leaves, and that nobody writes one in another way."""

import json
import os
import re
from pathlib import Path

import pytest

from companion.runs import execution
from lib import data, models, saving, sparse, training
from lib.atomic import write_whole
from lib.data import download

ROOT = Path(__file__).resolve().parent.parent
PLAIN = re.compile(
    r"\.write_(?:bytes|text)\(|\bopen\([^)]*[\"'][wax]|nbformat\.write\(|np\.savez?\(|\.to_csv\((?!index)|save_file\("
)
ELSEWHERE = {  # and what makes it whole there
    "lib/atomic.py": "renamed afterwards",
    "lib/data/download.py": "in a folder whose files are moved when they are whole",
    "notebooks/companion/workflow/run.py": "a log, which grows",
    "notebooks/companion/workflow/served.py": "the outputs of a fork, and a file in a folder of its own",
    "notebooks/companion/site/__init__.py": "in a folder that is made anew each time",
    "notebooks/30_your_own_network.ipynb": "what a reader would write, into a folder of its own",
}


def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path, monkeypatch):
    file = tmp_path / "figure.svg"
    write_whole(file, "old")

    def full(path, content):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: .*figure\.svg"):
        write_whole(file, "new")
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_nobody_writes_a_file_in_another_way():
    code = [*ROOT.glob("lib/**/*.py"), *ROOT.glob("notebooks/companion/**/*.py"), *ROOT.glob("notebooks/*.ipynb")]
    found = {path.relative_to(ROOT).as_posix() for path in code if PLAIN.search(sources(path))}
    assert found == set(ELSEWHERE)


def sources(path):
    """Code, of a notebook that of its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return "".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_the_place_of_a_file_is_named_and_makes_nothing_wait(tmp_path, monkeypatch):
    """Reading a pipe would wait for ever: models, sparse files, checkpoints, stages, data."""
    net, pipe = models.build("mlp", widths=[4], inputs=64, outputs=10), tmp_path / "model.safetensors"
    saving.save(net, tmp_path)
    pipe.unlink()
    os.mkfifo(pipe)
    for read in (lambda: saving.load(tmp_path), lambda: saving.load_into(net, pipe), lambda: sparse.load(pipe)):
        with pytest.raises(OSError, match=r"it is no file: .*model\.safetensors"):
            read()
    with pytest.raises(ValueError, match=r"checkpoint must be the path of a file, .*model\.safetensors"):
        training.fit(net, data.load("digits"), steps=1, checkpoint=pipe)
    monkeypatch.setitem(data.sources.PATHS, "cifar100", ["model.safetensors"] * 2)
    with pytest.raises(data.DataError, match=r"model\.safetensors cannot be read: it is no file\. Delete it"):
        data.load("cifar100", root=tmp_path, download=False)
    assert training.load_whole(pipe) is None and not pipe.exists(), "kept aside"


def test_a_device_is_not_written_over(tmp_path):
    (tmp_path / "null").symlink_to(os.devnull)
    with pytest.raises(OSError, match=r"it is a device: .*null"):
        write_whole(tmp_path / "null", "x")
    assert (tmp_path / "null").is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_the_place_of_a_folder_makes_nothing_wait(tmp_path, capsys):
    os.mkfifo(tmp_path / "run")
    execution.keep({}, tmp_path / "run" / "0.pt")
    assert "0.pt: not written" in capsys.readouterr().out
    os.mkfifo(tmp_path / ".download")
    with download._staging(tmp_path) as staging:
        assert not staging.exists()
