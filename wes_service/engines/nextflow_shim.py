#!/usr/bin/env python3
"""Stand for ``sbatch``, ``squeue`` or ``scancel`` inside the engine's sandbox, by the name it is called by.

The words and the current folder go to the engine's own process by the socket ``queue`` beside this file; what comes
back is printed. Standard library only, and little of it: it starts once for every task.
"""

import socket
import sys
from pathlib import Path


def main() -> int:
    """Ask, print, and return the exit code that the answer begins with."""
    me = Path(sys.argv[0])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(me.with_name("queue")))
        connection.sendall("\0".join([me.name, str(Path.cwd()), *sys.argv[1:]]).encode())
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile(encoding="utf-8") as stream:
            code, text = int(stream.readline()), stream.read()
    print(text, file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
