"""Downloads, from a server on this machine that serves, fails, lies, stalls and hangs up as told."""

import contextlib
import errno
import hashlib
import http.server
import io
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tarfile
import threading

import numpy as np
import pytest

from lib import data
from lib.data import download, files
from lib.data.sources import ARCHIVES, PATHS, SUMS, URLS

PAYLOAD = np.random.RandomState(0).bytes(3_000_000)
FILE = "X/a.bin"  # of a set that is not known, but for these tests
FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with a status, with (body, bytes withheld), with a dict of headers, or stalls after the half (None)."""

    def do_GET(self):
        self.server.seen.append(self.path)
        answers = self.server.answers.get(self.path, [404])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer == "hang up":
            return
        status, headers, body, missing = answer if isinstance(answer, int) else 200, {}, b"", 0
        if isinstance(answer, dict):
            status, headers, body = answer["status"], answer["headers"], answer.get("body", b"")
        elif not isinstance(answer, int):
            body, missing = answer or (PAYLOAD[: len(PAYLOAD) // 2], len(PAYLOAD) // 2)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + missing))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)
        if answer is None:
            self.server.go_on.wait(60)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server whose `answers` map a path to a list of them, the last one stays; it has the file X/a.bin."""
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.answers, httpd.seen, httpd.go_on = {"/a.bin": [(PAYLOAD, 0)]}, [], threading.Event()
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/"
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(download.pooch.core.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setitem(URLS, "X/", [httpd.url])
    monkeypatch.setitem(SUMS, FILE, {hashlib.md5(PAYLOAD).hexdigest(): "official"})
    yield httpd
    httpd.go_on.set()
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def dead():
    """The url of a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def obtain(root):
    download.obtain("x", [FILE], root)


def found(root):
    """All files below a folder, but for the lock."""
    below = (p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    return sorted(path for path in below if not path.endswith(".download.lock"))


def whole(root):
    """Whether the folder holds the whole file and nothing else."""
    return found(root) == [FILE] and (root / FILE).read_bytes() == PAYLOAD


def test_a_file_arrives_whole_and_readable(server, tmp_path, capfd):
    obtain(tmp_path / "new")
    assert whole(tmp_path / "new")
    assert capfd.readouterr().err == ""  # no progress bar where nobody looks
    (tmp_path / "other").write_text("")
    assert (tmp_path / "new" / FILE).stat().st_mode == (tmp_path / "other").stat().st_mode
    assert not (tmp_path / "new" / ".download").exists()


@pytest.mark.parametrize("first", [500, 503, 429, (PAYLOAD[:1000], len(PAYLOAD) - 1000), (PAYLOAD[:-1], 0), "hang up"])
def test_transient_failures_are_tried_again(server, tmp_path, first):
    server.answers["/a.bin"] = [first, first, (PAYLOAD, 0)]
    obtain(tmp_path)
    assert whole(tmp_path)
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("answer", "tries", "message"),
    [
        (404, 1, "404 Not Found"),
        (403, 1, "403 Forbidden"),
        (502, 3, "502 Server Error"),
        ((PAYLOAD[:10], 5), 3, "10 bytes read, 5 more expected"),
        ((PAYLOAD[:-1] + b"-", 0), 3, "MD5 hash .* does not match .*: expected md5:[0-9a-f]{32} but got [0-9a-f]{32}"),
        ((b"<html>not here</html>", 0), 3, "MD5 hash"),
        ("hang up", 3, "closed connection"),
        ({"status": 302, "headers": {"Location": "/a.bin"}}, 93, "redirects"),
    ],
)
def test_other_failures_end_it_name_file_url_and_remedy_and_leave_nothing(server, tmp_path, answer, tries, message):
    server.answers["/a.bin"] = [answer]
    with pytest.raises(data.DataError, match=message) as error:
        obtain(tmp_path)
    told = str(error.value)
    assert told.startswith(f"x: {FILE} is not in {tmp_path}, and {server.url}a.bin gives: ")
    assert f"`python -m lib.data x --root {tmp_path}`" in told
    assert "\n" not in told
    assert len(server.seen) <= tries
    assert not found(tmp_path)


def test_a_reason_is_the_servers_whatever_the_caller_is_handling(server, tmp_path):
    server.answers["/a.bin"] = [503]
    try:
        raise RuntimeError("of the caller")
    except RuntimeError:
        with pytest.raises(data.DataError, match="gives: 503 Server Error"):
            obtain(tmp_path)


def test_the_next_mirror_helps(server, dead, tmp_path, monkeypatch):
    server.answers |= {"/bad/a.bin": [(b"not it", 0)], "/gone/a.bin": [404]}
    monkeypatch.setitem(URLS, "X/", [dead, f"{server.url}bad/", f"{server.url}gone/", server.url])
    obtain(tmp_path)
    assert whole(tmp_path)


def test_a_redirect_is_followed_and_a_packed_file_stays_packed(server, tmp_path):
    server.answers |= {"/a.bin": [{"status": 301, "headers": {"Location": "/b"}}]}
    server.answers["/b"] = [{"status": 200, "headers": {"Content-Encoding": "x-gzip"}, "body": PAYLOAD}]
    obtain(tmp_path)
    assert whole(tmp_path)


def test_a_zip_without_a_known_sum_must_be_whole(server, tmp_path, monkeypatch):
    monkeypatch.setitem(URLS, "COVID-CT/", [server.url])
    for body in (PAYLOAD, b"", b"<html>not here</html>"):
        server.answers["/CT_COVID.zip"] = [(body, 0)]
        with pytest.raises(data.DataError, match="CT_COVID.zip gives: File is not a zip file"):
            download.obtain("covid_ct", ["COVID-CT/CT_COVID.zip"], tmp_path)
    assert not found(tmp_path)


@pytest.mark.parametrize("url", [None, "http://host.invalid/"])
def test_offline_fails_soon_and_says_what_to_do(dead, tmp_path, monkeypatch, url):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setitem(URLS, "MNIST/raw/", [url or dead])
    pauses = []
    monkeypatch.setattr(download.pooch.core.time, "sleep", pauses.append)
    with pytest.raises(data.DataError) as error:
        data.load("mnist", root=tmp_path)
    assert sum(pauses) == 3
    told = str(error.value)
    assert told.startswith(f"mnist: MNIST/raw/train-images-idx3-ubyte.gz is not in {tmp_path}, and ")
    assert (f"{dead}train-images-idx3-ubyte.gz gives: Connection refused. " if url is None else url) in told
    for part in (f"`python -m lib.data mnist --root {tmp_path}`", "root="):
        assert part in told
    assert "\n" not in told


def test_a_full_disk_is_one_error_that_names_the_file_and_nothing_stays(server, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, chunk):
            if self.tell() > 1_000_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(chunk)

    monkeypatch.setattr("pooch.downloaders.open", lambda file, mode: Full(file, "w"), raising=False)
    with pytest.raises(data.DataError, match=r"^x: cannot write .*a\.bin: No space left on device\. Make room there"):
        obtain(tmp_path)
    assert not found(tmp_path)
    assert len(server.seen) == 1


def test_a_folder_that_cannot_be_made_or_a_place_that_is_taken(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(data.DataError, match="cannot write .*: (File exists|Not a directory)"):
        obtain(tmp_path / "file")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "X").write_text("")
    with pytest.raises(data.DataError, match="cannot write .*: (File exists|Not a directory)"):
        obtain(tmp_path / "root")
    assert found(tmp_path) == ["file", "root/X"]


def until(condition):
    """Wait until a condition holds."""
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came")


def half(root):
    """Whether half of the file has arrived."""
    return any(p.stat().st_size for p in (root / ".download").rglob("*") if p.is_file())


@pytest.mark.skipif(FORK is None, reason="no fork")
def test_after_a_kill_nothing_of_it_stays(server, tmp_path):
    server.answers["/a.bin"] = [None, None, None, (PAYLOAD, 0)]
    for k in range(3):
        child = FORK.Process(target=obtain, args=(tmp_path,))
        child.start()
        until(lambda k=k: len(server.seen) > k and half(tmp_path))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert len(found(tmp_path)) == 1  # no more with every kill
        assert not (tmp_path / FILE).exists()
    obtain(tmp_path)
    assert whole(tmp_path)


@pytest.mark.skipif(FORK is None, reason="no fork")
def test_two_processes_fetch_a_file_once(server, tmp_path, monkeypatch):
    server.answers["/a.bin"] = [None, (PAYLOAD, 0)]  # the first stalls, and starts anew when it is let go
    monkeypatch.setattr(download, "PATIENCE", 0.1)
    log = tmp_path / "log"

    def run(k):
        with open(f"{log}{k}", "w") as sys.stderr:
            obtain(tmp_path / "root")

    children = [FORK.Process(target=run, args=(k,)) for k in range(2)]
    children[0].start()
    until(lambda: half(tmp_path / "root"))
    children[1].start()
    until(lambda: (tmp_path / "log1").exists() and (tmp_path / "log1").read_text())
    server.go_on.set()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    assert whole(tmp_path / "root")
    assert len(server.seen) == 2
    assert (tmp_path / "log0").read_text() == ""
    assert (tmp_path / "log1").read_text() == f"waiting for another process that downloads into {tmp_path / 'root'}\n"


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
    members = {path: np.zeros((20, 3074), np.uint8).tobytes() for path in PATHS["cifar100"]}
    members["../evil.txt"] = members["cifar-100-binary/other.txt"] = b"-"
    payload, name = archive(members), ARCHIVES["cifar-100-binary/"]
    server.answers[f"/{name}"] = [(payload, 0)]
    monkeypatch.setitem(URLS, "cifar-100-binary/", [server.url])
    for path, content in (members | {name: payload}).items():
        monkeypatch.setitem(SUMS, path, {hashlib.md5(content).hexdigest(): "official"})
    return tmp_path / "in" / "data"


def test_an_archive_gives_its_files_and_nothing_else(server, cifar):
    ds = data.load("cifar100", root=cifar)
    assert ds.variant == "official"
    assert found(cifar) == sorted(PATHS["cifar100"])
    assert [p.name for p in cifar.parent.parent.iterdir()] == ["in"]
    data.load("cifar100", root=cifar)
    assert len(server.seen) == 1
    file = cifar / PATHS["cifar100"][1]
    file.unlink()
    data.load("cifar100", root=cifar)  # one that is lost comes out of the archive again
    assert len(server.seen) == 2
    file.write_bytes(b"\1" + file.read_bytes()[1:])
    with pytest.raises(data.DataError, match=r"test\.bin is damaged: its md5"):
        data.load("cifar100", root=cifar)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({PATHS["cifar100"][0]: b"-"}, "its md5 is|test.bin. not found"),
        ({path: b"-" for path in PATHS["cifar100"]}, "its md5 is"),
        (None, "not a gzip file|file could not be opened"),
    ],
)
def test_an_archive_without_the_files_is_refused(server, cifar, monkeypatch, members, message):
    name = ARCHIVES["cifar-100-binary/"]
    payload = PAYLOAD if members is None else archive(members)
    server.answers[f"/{name}"] = [(payload, 0)]
    monkeypatch.setitem(SUMS, name, {hashlib.md5(payload).hexdigest(): "official"})
    with pytest.raises(data.DataError, match=f"cifar100: cifar-100-binary/train.bin is not in .*({message})"):
        data.load("cifar100", root=cifar)
    assert not found(cifar)


def test_every_file_of_every_set_has_a_source():
    for paths in PATHS.values():
        for path in paths:
            assert any(path.startswith(prefix) for prefix in URLS)


def test_missing_files_are_fetched_one_by_one(server, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SUMS", {})
    monkeypatch.setattr(download, "SUMS", {})
    monkeypatch.setitem(URLS, "UCI/", [f"{server.url}base/"])
    rows = "\n".join(f"{k} {k * k} {k % 3}" for k in range(20)).encode()
    texts = {"data": rows, "index_features": b"0\n2", "index_target": b"1"}
    texts |= {"index_train_3": b"\n".join(b"%d" % k for k in range(18)), "index_test_3": b"18\n19\n"}
    server.answers = {f"/base/yacht/data/{stem}.txt": [(text, 0)] for stem, text in texts.items()}
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
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download.pooch.core.time, "sleep", lambda seconds: None)
    monkeypatch.setitem(URLS, "MNIST/raw/", [dead])
    root = ["--root", str(tmp_path)]
    printed, code = command(*root)
    assert printed.startswith(f"data folder: {tmp_path}\n")
    assert [line.split()[0] for line in printed.splitlines()[1:]] == list(data.KNOWN)
    assert code == 0
    printed, code = command("function/sine", "mnist", *root)
    assert printed == f"{data.load('function/sine')}\n"
    assert dead in code
    assert "\n" not in code
    printed, code = command("minst")
    assert code.startswith("unknown data set 'minst'; known: ")
