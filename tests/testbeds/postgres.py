"""A PostgreSQL server of its own for tests: as an unprivileged user, on a free port, removed at its end.

Its collation is that of people (ICU's en-US), not that of bytes, as on most sites.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

#: Where Debian and others put the server's programs, which are not on the PATH.
_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")
_READY_WITHIN = 60.0
_UNPRIVILEGED = "nobody"


def program(name: str) -> str | None:
    """Return the path of one of PostgreSQL's programs, the newest there is."""
    found = [path for place in _PLACES for path in Path("/").glob(f"{place.lstrip('/')}/{name}")]
    return (
        str(max(found, key=lambda path: [int(part) for part in path.parts if part.isdigit()]))
        if found
        else (shutil.which(name))
    )


def missing_tools() -> str | None:
    """Say what is missing for a server; None when nothing is."""
    missing = [name for name in ("initdb", "postgres") if program(name) is None]
    return f"PostgreSQL's {' and '.join(missing)} (Debian package postgresql) not installed" if missing else None


class PrivateServer:
    """One server, which can die and come again on the same port."""

    def __init__(self, **options: str) -> None:
        """Assign; ``options`` are settings of ``postgresql.conf``. Nothing is flushed to disk unless asked."""
        self._options = {"fsync": "off", "full_page_writes": "off", "max_connections": "100", **options}
        self._folder = Path(tempfile.mkdtemp(prefix="weft-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        self.port = _free_port()

    def make(self) -> None:
        """Make the files of a server that has no databases yet."""
        self._folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(self._folder, _UNPRIVILEGED)
        self._run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8",
                  "--locale-provider=icu", "--icu-locale=en-US")  # fmt: skip

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = {
            **self._options,
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(program("postgres")), "-D", str(self._folder / "data"), *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **_somebody_else(),
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Break all connections and stop, by the server's own process id."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)  # "fast shutdown"
            process.wait(60)

    def remove(self) -> None:
        """Stop, and remove all files."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement as the superuser and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self, template: str = "template0") -> str:
        """Make a database, empty or like ``template``, and return its name."""
        name = f"weft_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever uses it."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, name: str, *arguments: str) -> None:
        argv = [str(program(name)), "-D", str(self._folder / "data"), *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/", **_somebody_else())
        if done.returncode != 0:
            raise RuntimeError(f"{name} failed:\n{done.stdout}{done.stderr}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError as error:
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    log = (self._folder / "log").read_text()[-4000:]
                    raise RuntimeError(f"PostgreSQL did not start: {error}\n{log}") from error
                time.sleep(0.02)
            else:
                return


@contextmanager
def private_server(**options: str) -> Iterator[PrivateServer]:
    """Run a server."""
    server = PrivateServer(**options)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.remove()


def _somebody_else() -> dict[str, Any]:
    """Return who runs the server: PostgreSQL refuses to be run by root."""
    return {"user": _UNPRIVILEGED, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
