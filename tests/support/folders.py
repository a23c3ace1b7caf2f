"""Where tests keep their files: in memory where there is plenty, for a run makes and removes some hundred thousand.

A file system on a disk remembers what was removed for a while and looks for other places meanwhile, which takes a
fifth of all the time of the processor. Nothing is measured there that a disk would change: a process that is killed
leaves the same either way.
"""

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 6 * 1024**3


def keep_in_memory() -> None:
    """Where nobody chose another place. From here on all of this process, and all that it begins, work there."""
    if "TMPDIR" in os.environ or not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < ENOUGH_BYTES:
        return
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
