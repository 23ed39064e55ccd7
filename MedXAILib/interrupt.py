"""Ctrl-C: the first one stops cleanly after the running operator, the second one at once, even inside an operator. A
request to end (SIGTERM, SIGHUP) stops at once, too, and leaves nothing half-written.

Python runs a signal's handler only between operators; one convolution can take many seconds. The interpreter does
write a byte to a wake-up socket the moment the signal comes, and a thread that waits there can act while the main
thread is busy.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_CODE = 130
moving = threading.Lock()
"""Held while files are moved to their place, which is not to be left half done."""
last_acts: list[Callable[[], None]] = []
"""What is done before the process is ended at once: who leaves something half-written adds what removes it."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let these signals wait until the block, which is short, has ended."""
    came: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if main else None
    try:
        with moving:
            yield
    finally:
        if main:
            signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


def watch() -> None:
    """Start watching these signals; call it once, from the main thread."""
    waiting, written = socket.socketpair()
    written.setblocking(False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ends = [s for name in ("SIGTERM", "SIGHUP") if (s := getattr(signal, name, None)) is not None]
    for s in ends:
        if signal.getsignal(s) is not signal.SIG_IGN:  # nohup
            signal.signal(s, lambda *_: None)
    signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)

    def wait(_written: socket.socket) -> None:  # which lives as long as the thread
        interrupts, code = 0, EXIT_CODE
        while interrupts < 2:
            came = waiting.recv(1)[0]
            interrupts += came == signal.SIGINT
            if came in ends:
                code = 128 + came
                break
            if interrupts == 1:
                print("\nStopping after the running operator; Ctrl-C again stops at once.", file=sys.stderr, flush=True)
        with moving:
            for clean in last_acts:
                clean()
            if code != EXIT_CODE:
                print("\nStopped from outside; nothing half-written was left.", file=sys.stderr, flush=True)
            os._exit(code)

    threading.Thread(target=wait, args=(written,), daemon=True).start()
