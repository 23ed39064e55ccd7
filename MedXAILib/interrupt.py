"""Ctrl-C: the first one stops cleanly after the running operator, the second one at once, even inside an operator.

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
    """Start watching SIGINT; call it once, from the main thread."""
    from .outputs.files import unfinished

    waiting, written = socket.socketpair()
    written.setblocking(False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        interrupts = 0
        while interrupts < 2:
            interrupts += waiting.recv(1) == bytes([signal.SIGINT])
            if interrupts == 1:
                print("\nStopping after the running operator; Ctrl-C again stops at once.", file=sys.stderr, flush=True)
        for folder in list(unfinished):
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(EXIT_CODE)

    wait.socket = written  # the socket lives as long as the thread
    threading.Thread(target=wait, daemon=True).start()
