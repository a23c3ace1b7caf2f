"""The command `tidewaiter` with all its modules loaded, which begins a process of its own for each call.

To load them is most of what a short command takes. So it is done once: each call is a fork of this process, with the
words, the environment, the folder and the streams of whoever calls. From there on it is a process as any other: it has
an id of its own, takes signals, and ends with a status. `processes` is how a test calls it.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import api.cli

LARGEST = 1024 * 1024
STREAMS = 3
kept: dict[int, int] = {}
"""Each process that is not over, and the file where its status is to be told."""


def load() -> None:
    """What is loaded stays: it is not looked through for garbage, neither here nor in what is forked."""
    gc.disable()
    for module in Path(api.cli.__file__).parent.glob("[a-z]*.py"):
        import_module(f"api.cli.{module.stem}")
    import_module("api.app")
    gc.collect()
    gc.freeze()
    gc.enable()
    assert threading.active_count() == 1, "only the thread that forks would go on"


def serve(door: socket.socket) -> None:
    """Until the caller is gone. That a process is over wakes it as a call does, so that neither can be missed."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([door, woken], [], [])
        if woken in ready:
            os.read(woken, LARGEST)
        reap()
        if door in ready:
            call, files, _, _ = socket.recv_fds(door, LARGEST, STREAMS + 1)
            if not call:
                return
            answer(call, files, [door.fileno(), woken, wakes])


def answer(call: bytes, files: Sequence[int], ours: Sequence[int]) -> None:
    """Begins the process, which gets no file that is ours, and tells its id."""
    *streams, told = files
    if (pid := os.fork()) == 0:
        become(streams, [told, *kept.values(), *ours], **json.loads(call))
    for file in streams:
        os.close(file)
    tell(told, pid)
    kept[pid] = told


def reap() -> None:
    """Tells the status of each process that is over."""
    for pid, told in [*kept.items()]:
        over, status = os.waitpid(pid, os.WNOHANG)
        if over:
            del kept[pid]
            tell(told, os.waitstatus_to_exitcode(status))
            os.close(told)


def tell(file: int, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(file, f"{number}\n".encode())


def become(
    streams: Sequence[int], ours: Sequence[int], words: list[str], environment: dict[str, str], folder: str
) -> NoReturn:
    """The process that was called, without the files that are ours."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, file in enumerate(streams):
        os.dup2(file, number)
    for file in (*streams, *ours):
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    try:
        os.chdir(folder)
        status = status_of_call()
    except BaseException:
        traceback.print_exc()
        status = 1
    leave(status)


def status_of_call() -> int:
    try:
        api.cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def leave(status: int) -> NoReturn:
    """As the interpreter does, but for taking apart what was loaded, which takes longer than many a command."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        status = 120
    os._exit(status)


if __name__ == "__main__":
    load()
    serve(socket.socket(fileno=int(sys.argv[1])))
