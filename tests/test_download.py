"""Downloads, from a server on this machine that serves, fails, lies and hangs up as told."""

import contextlib
import errno
import hashlib
import http.server
import io
import os
import runpy
import socket
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest

from lib import data
from lib.data import download, files
from lib.data.sources import ARCHIVES, PATHS, URLS

PAYLOAD = np.random.RandomState(0).bytes(3_000_000)
MD5 = {hashlib.md5(PAYLOAD).hexdigest(): "official"}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append(self.path)
        answers = self.server.answers.get(self.path, [404])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        status, body, missing = (answer, b"", 0) if isinstance(answer, int) else (200, *answer)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server whose `answers` map a path to a list of statuses or (body, bytes withheld); the last one stays."""
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.answers, httpd.seen = {}, []
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setenv("no_proxy", "*")
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def dead():
    """The url of a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def only(target):
    """Whether the folder holds the whole target and nothing else."""
    return [p.name for p in target.parent.iterdir()] == [target.name] and target.read_bytes() == PAYLOAD


def test_a_file_arrives_whole(server, tmp_path, capfd):
    server.answers["/a"] = [(PAYLOAD, 0)]
    download.download([f"{server.url}/a"], tmp_path / "new" / "a", md5=MD5)
    assert only(tmp_path / "new" / "a")
    assert capfd.readouterr().err == ""  # no progress bar where nobody looks


@pytest.mark.parametrize("first", [500, 503, 429, (PAYLOAD[:1000], len(PAYLOAD) - 1000)])
def test_transient_failures_are_tried_again(server, tmp_path, first):
    server.answers["/a"] = [first, first, (PAYLOAD, 0)]
    download.download([f"{server.url}/a"], tmp_path / "a", md5=MD5)
    assert only(tmp_path / "a")
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("answer", "tries", "message"),
    [
        (404, 1, "404"),
        (502, download.TRIES, "502"),
        ((PAYLOAD[:10], 5), download.TRIES, "only 10 of 15 bytes"),
        ((PAYLOAD[:-1] + b"-", 0), 1, "md5 [0-9a-f]{32}, expected [0-9a-f]{32}"),
    ],
)
def test_other_failures_end_it_and_leave_nothing(server, tmp_path, answer, tries, message):
    server.answers["/a"] = [answer]
    with pytest.raises(ConnectionError, match=message):
        download.download([f"{server.url}/a"], tmp_path / "a", md5=MD5)
    assert len(server.seen) == tries
    assert not list(tmp_path.iterdir())


def test_the_next_mirror_helps(server, dead, tmp_path):
    server.answers |= {"/bad": [(b"not it", 0)], "/a": [(PAYLOAD, 0)]}
    download.download([f"{dead}/a", f"{server.url}/bad", f"{server.url}/a"], tmp_path / "a", md5=MD5)
    assert only(tmp_path / "a")


@pytest.mark.parametrize("url", [None, "http://host.invalid/"])
def test_offline_fails_at_once_and_says_what_to_do(dead, tmp_path, monkeypatch, url):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setitem(URLS, "MNIST/raw/", [url or f"{dead}/"])
    monkeypatch.setattr(download, "PAUSE", 100)
    start = time.monotonic()
    with pytest.raises(data.DataError) as error:
        data.load("mnist", root=tmp_path)
    assert time.monotonic() - start < 20
    told = str(error.value)
    assert told.startswith("mnist: MNIST/raw/train-images-idx3-ubyte.gz is not in ")
    for part in (f"`python -m lib.data mnist --root {tmp_path}`", "root=", url or dead):
        assert part in told
    assert "\n" not in told


def test_a_full_disk_is_named_and_nothing_stays(server, tmp_path, monkeypatch):
    server.answers["/a"] = [(PAYLOAD, 0)]

    class Full(io.FileIO):
        def write(self, chunk):
            if self.tell() > 1_000_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(chunk[:700_000])  # a write may also be short

    monkeypatch.setattr(download, "open", lambda file, mode, buffering: Full(file, mode), raising=False)
    with pytest.raises(data.DataError, match=r"cannot write .*a: No space left on device\. Make room"):
        download.download([f"{server.url}/a"], tmp_path / "a", md5=MD5)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(data.DataError, match="cannot write"):
        download.download([f"{server.url}/a"], tmp_path / "file" / "a")


def test_what_a_killed_download_left_is_swept_up(server, tmp_path):
    server.answers["/a"] = [(PAYLOAD, 0)]
    old, live = tmp_path / ".b.1-x.part", tmp_path / ".b.2-x.part"
    old.write_bytes(b"half")
    live.write_bytes(b"half")
    os.utime(old, (0, 0))
    download.download([f"{server.url}/a"], tmp_path / "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == [live.name, "a"]


def test_two_processes_fetch_the_same_file(server, tmp_path):
    server.answers["/a"] = [(PAYLOAD, 0)]
    code = (
        "import sys, pathlib; from lib.data.download import download;"
        "download([sys.argv[1]], pathlib.Path(sys.argv[2]), md5={sys.argv[3]: ''})"
    )
    command = [sys.executable, "-c", code, f"{server.url}/a", str(tmp_path / "a"), *MD5]
    runs = [subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) for _ in range(2)]
    assert [run.wait(120) for run in runs] == [0, 0]
    assert only(tmp_path / "a")
    assert len(server.seen) == 2


def archive(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, payload in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    return buffer.getvalue()


@pytest.fixture
def cifar(server, tmp_path, monkeypatch):
    """A data folder whose CIFAR-100 comes from the server, as an archive with a member that wants to get out."""
    members = {path: np.zeros((20, 3074), np.uint8).tobytes() for path in PATHS["cifar100"][:2]}
    members["../evil.txt"] = members["cifar-100-binary/other.txt"] = b"-"
    payload = archive(members)
    name = ARCHIVES["cifar-100-binary/"]
    server.answers[f"/{name}"] = [(payload, 0)]
    monkeypatch.setitem(URLS, "cifar-100-binary/", [f"{server.url}/"])
    monkeypatch.setattr(
        files, "SUMS", {p: {hashlib.md5(members[p]).hexdigest(): "official"} for p in PATHS["cifar100"]}
    )
    monkeypatch.setitem(download.SUMS, name, {hashlib.md5(payload).hexdigest(): "official"})
    return tmp_path / "in" / "data"


def test_an_archive_gives_its_files_and_nothing_else(server, cifar):
    ds = data.load("cifar100", root=cifar)
    assert ds.variant == "official"
    found = sorted(str(p.relative_to(cifar.parent.parent)) for p in cifar.parent.parent.rglob("*") if p.is_file())
    assert found == sorted(f"in/data/{p}" for p in PATHS["cifar100"])
    data.load("cifar100", root=cifar)
    assert len(server.seen) == 1
    file = cifar / PATHS["cifar100"][1]
    file.write_bytes(b"\1" + file.read_bytes()[1:])
    with pytest.raises(data.DataError, match=r"test\.bin is damaged: its md5"):
        data.load("cifar100", root=cifar)


def test_an_archive_without_a_file_is_refused(server, cifar, monkeypatch):
    name = ARCHIVES["cifar-100-binary/"]
    server.answers[f"/{name}"] = [(archive({PATHS["cifar100"][0]: b"-"}), 0)]
    monkeypatch.setitem(download.SUMS, name, None)
    with pytest.raises(data.DataError, match=r"cifar100: .*test\.bin"):
        data.load("cifar100", root=cifar)
    assert not [p for p in cifar.rglob("*") if p.is_file()]


def test_every_file_of_every_set_has_a_source():
    for paths in PATHS.values():
        for path in paths:
            assert any(path.startswith(prefix) for prefix in URLS)


def test_missing_files_are_fetched_one_by_one(server, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SUMS", {})
    monkeypatch.setattr(download, "SUMS", {})
    monkeypatch.setitem(URLS, "UCI/", [f"{server.url}/base/"])
    rows = "\n".join(f"{k} {k * k} {k % 3}" for k in range(20)).encode()
    texts = {"data": rows, "index_features": b"0\n2", "index_target": b"1"}
    texts |= {"index_train_3": b"\n".join(b"%d" % k for k in range(18)), "index_test_3": b"18\n19\n"}
    server.answers |= {f"/base/yacht/data/{stem}.txt": [(text, 0)] for stem, text in texts.items()}
    ds = data.load("uci/yacht", split=3, root=tmp_path)
    assert len(ds.train.x) == 16
    assert sorted(server.seen) == sorted(server.answers)


def command(*names):
    """What `python -m lib.data NAME ...` prints, and what it exits with."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", ["lib.data", *names])
        try:
            runpy.run_module("lib.data", run_name="__main__")
        except SystemExit as end:
            return printed.getvalue(), end.code
    return printed.getvalue(), 0


def test_the_command_lists_fetches_and_fails_shortly(tmp_path, dead, monkeypatch):
    monkeypatch.setitem(URLS, "MNIST/raw/", [f"{dead}/"])
    root = ["--root", str(tmp_path)]
    printed, code = command(*root)
    assert printed.startswith(f"data folder: {tmp_path}\n")
    assert [line.split()[0] for line in printed.splitlines()[1:]] == list(data.KNOWN)
    assert code == 0
    printed, code = command("wine", "mnist", *root)
    assert printed == f"{data.load('wine')}\n"
    assert dead in code
    assert "\n" not in code
    printed, code = command("minst")
    assert code.startswith("unknown data set 'minst'; known: ")
