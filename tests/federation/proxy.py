"""An HTTP forward proxy on loopback that can misbehave: it cuts connections and answers late, as wires do."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Proxy:
    """Passes requests on; every ``cut_every``-th answer is cut in its middle."""

    def __init__(self, *, cut_every: int = 0) -> None:
        self.cut_every = cut_every
        self.passed = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_all(self) -> None:
        """Break every connection now."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut_all()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Pass one request and its answer on, then close: a node must bear that too."""
        with client, suppress(OSError, ValueError, IndexError):
            stream = client.makefile("rb")
            line = stream.readline().decode("latin-1").split()
            target = urlsplit(line[1])
            head, length = [], 0
            while (field := stream.readline()) not in (b"\r\n", b""):
                name = field.partition(b":")[0].lower()
                length = int(field.partition(b":")[2]) if name == b"content-length" else length
                if name not in (b"connection", b"proxy-connection"):
                    head.append(field)
            body = stream.read(length)
            with socket.create_connection((str(target.hostname), int(target.port or 80))) as server:
                with self._lock:
                    self._open |= {client, server}
                    self.passed += 1
                    cut = self.cut_every and self.passed % self.cut_every == 0
                path = target.path + (f"?{target.query}" if target.query else "")
                request = (
                    f"{line[0]} {path} HTTP/1.1\r\n".encode() + b"".join(head) + b"Connection: close\r\n\r\n" + body
                )
                server.sendall(request)
                while chunk := server.recv(65536):
                    if cut:
                        client.sendall(chunk[: len(chunk) // 2])
                        break
                    client.sendall(chunk)
                with self._lock:
                    self._open -= {client, server}
