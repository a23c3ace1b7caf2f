"""The database's folder as a first start leaves it when it has made and migrated it, before it writes anything there.

Making it is most of what a first start takes, and the same each time: so `tidewaiter migrate` does it once, and all
servers but those whose starting is what is tested get a copy.
"""

import atexit
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.support import processes


def lay(data: Path) -> None:
    """Under the data folder of a server, if none has worked there yet."""
    place = data / "postgres"
    if not place.exists():
        place.mkdir(mode=0o700, parents=True)
        subprocess.run(["cp", "-Rp", _made() / "postgres" / "data", place / "data"], check=True, timeout=60)


@cache
def _made() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tidewaiter-made-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIDEWAITER_")}
    settings = {"TIDEWAITER_DATA": str(folder), "TIDEWAITER_EMBEDDED_FSYNC": "off"}
    done = processes.run(["migrate"], inherited | settings)
    assert done.returncode == 0, done.stderr
    return folder
