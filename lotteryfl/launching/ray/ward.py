"""The program as the child of an actor: `python -m lotteryfl.launching.ray.ward DESCRIPTOR ARGUMENTS…`.

It ends when the other end of the line, an inherited socket, is closed: when its actor is gone, however that went.
"""

import os
import signal
import socket
import sys
import threading

from lotteryfl import program
from lotteryfl.exitcodes import INTERRUPTED

_GOODBYE_SECONDS = 20.0
"""For handing work back and closing files; what hangs after that is no orphan either."""


def _end_with(line: socket.socket) -> None:
    line.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_GOODBYE_SECONDS)
    os._exit(INTERRUPTED)


def main() -> None:
    """Run the program, and end with the actor."""
    line = socket.socket(fileno=int(sys.argv[1]))
    line.set_inheritable(False)  # what a user's code starts does not hold it open
    threading.Thread(target=_end_with, args=(line,), name="actor", daemon=True).start()
    sys.argv[:] = ["lotteryfl", *sys.argv[2:]]
    program.main()


if __name__ == "__main__":
    main()
