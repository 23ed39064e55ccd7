"""Ctrl-C: the first one stops cleanly after the running operator, the second one at once, even inside an operator. A
request to end (SIGTERM, SIGHUP) stops at once, too, and leaves nothing half-written.

Python runs a signal's handler only between operators; one convolution can take many seconds. The interpreter does
write a byte to a wake-up socket the moment the signal comes, and a thread that waits there can act while the main
thread is busy.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading

EXIT_CODE = 130


def watch() -> None:
    """Start watching these signals; call it once, from the main thread."""
    from .outputs.staging import unfinished

    waiting, written = socket.socketpair()
    written.setblocking(False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ends = [s for name in ("SIGTERM", "SIGHUP") if (s := getattr(signal, name, None)) is not None]
    for s in ends:
        if signal.getsignal(s) is not signal.SIG_IGN:  # nohup
            signal.signal(s, lambda *_: None)
    signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        interrupts, code = 0, EXIT_CODE
        while interrupts < 2:
            came = waiting.recv(1)[0]
            interrupts += came == signal.SIGINT
            if came in ends:
                code = 128 + came
                break
            if interrupts == 1:
                print("\nStopping after the running operator; Ctrl-C again stops at once.", file=sys.stderr, flush=True)
        for folder in list(unfinished):
            shutil.rmtree(folder, ignore_errors=True)
        if code != EXIT_CODE:
            print("\nStopped from outside; nothing was left behind.", file=sys.stderr, flush=True)
        os._exit(code)

    wait.socket = written  # the socket lives as long as the thread
    threading.Thread(target=wait, daemon=True).start()
