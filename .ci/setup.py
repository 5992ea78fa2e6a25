"""Make .venv/ what requirements.txt says, or do nothing where it is that already; `make` calls this first.

With arguments it runs uv with them instead (`make lock`). Standard library only: the user's own Python runs
it before anything is installed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)  # every locked package has a compiled wheel for these
ROOT = Path(__file__).resolve().parent.parent
VENV, UV = ROOT / ".venv", ROOT / ".uv"
PINNED = ["--require-hashes", "--no-deps", "-r", str(ROOT / ".ci" / "uv.txt")]  # one version, by its hashes
READY = VENV / ".ready"  # written last: an environment without it was killed half-made
BIN, EXE = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
PYTHON = VENV / BIN / f"python{EXE}"


def version():
    """The Python of the environment: the one that runs this, or the newest that fits where that is too new."""
    return "{}.{}".format(*min(sys.version_info[:2], NEWEST))


def wanted():
    """What .venv/.ready says of a finished environment: its Python and a digest of what was installed."""
    content = b"".join((ROOT / name).read_bytes() for name in ("requirements.txt", "pyproject.toml"))
    return f"{version()} {hashlib.sha256(content).hexdigest()}\n"


def ready():
    """Whether .venv/ is finished, as wanted, and its Python still the one it was made with."""
    try:
        return READY.read_bytes() == wanted().encode() and made_with() == version()
    except OSError:
        return False


def made_with():
    """The version that .venv/'s Python reports, None where it does not run."""
    ask = [str(PYTHON), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(ask, capture_output=True, text=True).stdout.strip()
    except OSError:
        return None


def works(uv):
    """Whether this uv runs (a version manager's shim may be there without one)."""
    try:
        return subprocess.run([str(uv), "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def find_uv():
    """The user's uv, or one of our own in .uv/."""
    theirs, ours = shutil.which("uv"), UV / BIN / f"uv{EXE}"
    for uv in filter(None, (theirs, ours)):
        if works(uv):
            return str(uv)
    print("environment: uv is missing, installing one into .uv/", flush=True)
    shutil.rmtree(UV, ignore_errors=True)
    quiet = ["--quiet", "--disable-pip-version-check"]
    tried = subprocess.run([sys.executable, "-m", "venv", str(UV)], capture_output=True)
    if tried.returncode == 0:
        subprocess.run([str(UV / BIN / f"python{EXE}"), "-m", "pip", "install", *quiet, *PINNED])
    else:  # Debian's python3 comes without venv, but perhaps with pip
        shutil.rmtree(UV, ignore_errors=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "install", *quiet, "--target", str(UV), *PINNED], capture_output=True
        )
    if not works(ours):
        sys.exit("environment: no uv, and pip could not install one: install uv, or python3-venv and a network")
    return str(ours)


def make():
    """Create .venv/ (or bring a finished one up to date) with exactly the locked packages, then the project."""
    uv, fresh = find_uv(), not READY.is_file() or made_with() != version()
    print(f"environment: {'making' if fresh else 'updating'} .venv/ with Python {version()}", flush=True)
    # an activated .venv may be what runs this: make the new one from its base
    base = getattr(sys, "_base_executable", sys.executable) if sys.version_info[:2] <= NEWEST else version()
    if fresh:
        shutil.rmtree(VENV, ignore_errors=True)
        call(uv, "venv", "--quiet", "--python", base, str(VENV))
    READY.unlink(missing_ok=True)
    quiet = [] if sys.stderr.isatty() else ["--quiet"]  # a person sees the downloads' progress
    # the hashes decide what is installed, so that any index may offer it
    lock = ["--require-hashes", "--index-strategy", "unsafe-best-match", "requirements.txt"]
    call(uv, "pip", "sync", *quiet, "--python", str(PYTHON), *lock)
    project = ["--no-deps", "--no-build-isolation", "--editable", "."]
    call(uv, "pip", "install", "--quiet", "--offline", "--python", str(PYTHON), *project)
    READY.write_text(wanted())


def call(*command):
    """Run a command from the root; end where it fails, its own message is enough."""
    if subprocess.run(command, cwd=str(ROOT)).returncode:
        sys.exit(f"environment: not finished ({' '.join(command[:3])} failed); the same command tries again")


def alone():
    """Hold requirements.txt until this process ends, however it ends, so that two never set up at once."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        lock = open(ROOT / "requirements.txt", "r+b")  # noqa: SIM115
    except OSError as error:
        sys.exit(f"environment: {ROOT} cannot be written ({error.strerror}): copy it to a folder that can be")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("environment: waiting for another make that is setting up .venv/", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        pass
    return lock


if __name__ == "__main__":
    if sys.version_info[:2] < OLDEST:
        found, oldest, newest = ("{}.{}".format(*v[:2]) for v in (sys.version_info, OLDEST, NEWEST))
        sys.exit(f"Python {found} is too old; {oldest} to {newest} do, e.g. `make figures PYTHON=python{newest}`")
    if sys.argv[1:]:
        sys.exit(subprocess.call([find_uv(), *sys.argv[1:]], cwd=str(ROOT)))
    if not os.access(Path.home(), os.W_OK):  # uv keeps its downloads there
        os.environ.setdefault("UV_CACHE_DIR", str(UV / "cache"))
    if not ready():
        held = alone()
        if not ready():  # another make may have finished it meanwhile
            make()
