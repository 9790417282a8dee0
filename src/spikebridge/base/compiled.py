"""C sources that the machine's compiler builds once; the shared objects are kept."""

import atexit
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from spikebridge.base.errors import UserError
from spikebridge.base.files import atomic_path, default_cache

_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared",
          "-fPIC")  # fmt: skip


seconds: dict[str, float] = {}
"""What building took in this process, by name of the source; a kept library takes none."""


def compiled(source: Path, *flags: str) -> ctypes.CDLL | None:
    """A C source as a library, or None where there is no compiler or it fails.

    The shared object is kept in the cache folder under a key of source, flags and processor.

    Args:
        source: The C file.
        flags: Further flags of the compiler.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    key = hashlib.sha256(source.read_bytes())
    key.update(" ".join((compiler, *_FLAGS, *flags, _processor())).encode())
    path = _kernels() / f"{source.stem}-{key.hexdigest()[:20]}.so"
    try:
        if not path.exists():
            with atomic_path(path) as temporary:
                command = [compiler, *_FLAGS, *flags, str(source), "-o", str(temporary)]
                began = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds[source.stem] = time.perf_counter() - began
        return ctypes.CDLL(str(path))
    except (OSError, UserError, subprocess.CalledProcessError):
        return None


def _kernels() -> Path:
    """Where libraries are kept; without a home folder, for as long as this process lives."""
    try:
        return default_cache() / "kernels"
    except UserError:
        return _temporary()


@cache
def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="spikebridge-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
