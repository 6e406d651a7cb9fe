"""A real FTP server in a thread of its own, over a folder, that can break off in the middle of a file."""

from __future__ import annotations

import logging
import threading
import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import DTPHandler, FTPHandler, TLS_DTPHandler, TLS_FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer


class FtpSite:
    """Serves ``folder`` to anybody for reading, and to the user ``me`` for writing too.

    With a certificate (a file with its key) it speaks TLS and nothing else, on both connections.
    """

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
        self.folder = folder
        self.commands: list[str] = []
        self.breaks_after: list[int] = []
        self.loop = IOLoop()
        users = DummyAuthorizer()
        users.add_user("me", "secret", str(folder), perm="elradfmwMT")
        users.add_anonymous(str(folder))
        site = self

        secure = certificate is not None

        class Data(TLS_DTPHandler if secure else DTPHandler):  # type: ignore[misc]
            def use_sendfile(self) -> bool:
                return False

            def send(self, data: bytes) -> int:
                if site.breaks_after and self.tot_bytes_sent >= site.breaks_after[0]:
                    site.breaks_after.pop(0)
                    self.cmd_channel.close()
                    return 0
                return int(super().send(data[: 1 << 14]))

        class Control(TLS_FTPHandler if secure else FTPHandler):  # type: ignore[misc]
            authorizer = users
            certfile = None if certificate is None else str(certificate)
            tls_control_required = tls_data_required = secure
            dtp_handler = Data
            banner = "ready"
            auth_failed_timeout = 0.01

            def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
                site.commands.append(line if cmd != "PASS" else "PASS")
                super().pre_process_command(line, cmd, arg)

        self.handler = Control
        self.server = FTPServer(("127.0.0.1", 0), Control, ioloop=self.loop)
        self.port = int(self.server.address[1])
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._serve)

    def url(self, path: str) -> str:
        return f"ftp://127.0.0.1:{self.port}{path}"

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(10)

    def _serve(self) -> None:
        while not self.stopping.is_set():
            self.loop.loop(timeout=0.02, blocking=False)
        self.server.close_all()
        self.loop.close()
