"""Where and with what a record was made.

git and the hash of the sources are taken as this module is imported: that is the code that runs, whatever is written to
the disk while it does.
"""

import datetime
import hashlib
import os
import platform
from importlib.metadata import version

import torch

from companion.settings import ROOT, changes, git
from lib.training import bf16_pays


def provenance(device="cpu"):
    """Where and with what a record was made; sources that have changed since they were imported are not clean."""
    return IMPORTED | {
        "git_clean": IMPORTED["git_clean"] and lib_digest() == IMPORTED["lib"],
        "lock": hashlib.sha256((ROOT / "requirements.txt").read_bytes()).hexdigest()[:16],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn")},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "cores": os.cpu_count(),
        "instructions": instructions(),
        "threads": torch.get_num_threads(),
        "bf16": bf16_pays(device),
        "date": datetime.date.today().isoformat(),
    }


def lib_digest():
    """One hash over the sources of the method and of the notebooks' room."""
    digest = hashlib.sha256()
    found = [*(ROOT / "lib").rglob("*.py"), *(ROOT / "notebooks").rglob("*.py")]
    for path in sorted(path for path in found if path.is_file()):  # an editor's lock is a link to nowhere
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def sources():
    """What git and the hash say of the sources on the disk."""
    clean = changes("lib", "notebooks") == ""
    return {"git": git("rev-parse", "HEAD") or "unknown", "git_clean": clean, "lib": lib_digest()}


IMPORTED = sources()


def instructions():
    """Those of this processor by which oneDNN chooses how it multiplies, so that other records may differ in digits."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if capabilities.get(name)]


def processor():
    """The processor's name, as far as torch or the system tells it."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities.get("cpu_name") or platform.processor() or platform.machine()
