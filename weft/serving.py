"""Serve the ASGI application on one TCP port and, for engines, on a Unix socket; Ctrl-C stops cleanly."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvicorn

from weft.config import Settings
from weft.connections import bounded
from weft.errors import InvalidRequest

#: Numbers of parameters in glibc's ``malloc.h``.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def listen(settings: Settings) -> socket.socket:
    """Bind the TCP port; port 0 picks a free one.

    :raises InvalidRequest: the address is taken or is not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    tcp = socket.socket(family, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        tcp.bind((settings.host, settings.port))
        tcp.listen(2048)
    except OSError as error:
        tcp.close()
        raise InvalidRequest(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}",
            field="port",
            remedy="choose another --port, or --port 0 for a free one",
        ) from error
    return tcp


def listen_for_engines(path: Path) -> socket.socket:
    """Bind the engines' Unix socket; who may use it is decided by the token that each request carries."""
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o711)
    path.unlink(missing_ok=True)
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:  # the folder's descriptor keeps the address short, whatever the length of the data folder's path
        unix.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    path.chmod(0o666)
    unix.listen(2048)
    return unix


def url_of(tcp: socket.socket, *, secure: bool = False) -> str:
    """Return the URL of a bound TCP socket."""
    host, port = tcp.getsockname()[:2]
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return what the port speaks TLS with; None where no certificate is configured.

    :raises InvalidRequest: names the file that cannot be used.
    """
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidRequest(f"tls_cert and tls_key cannot be used: {error}", field="tls_cert") from error
    if settings.tls_client_ca is not None:
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except OSError as error:
            raise InvalidRequest(f"tls_client_ca cannot be used: {error}", field="tls_client_ca") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def keep_memory() -> None:
    """Let glibc keep the memory of large answers instead of giving each back to the kernel.

    Lists go out in about 160 KB; mapping and unmapping that much for each costs more than making it (``mallopt(3)``).
    Another C library has no such function, and nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, 64 << 20)


def spare_the_collector() -> None:
    """Let Python's garbage collector leave alone what is loaded now, and look at the rest less often.

    What weft imports is a million objects that stay; to walk through them took a sixth of the time of a create.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def serve(
    app: Any,
    settings: Settings,
    *,
    tcp: socket.socket,
    tls: ssl.SSLContext | None = None,
    on_ready: Callable[[], None],
) -> None:
    """Answer requests until SIGINT or SIGTERM; ``tls`` is for the port alone, not for the engines' socket."""
    keep_memory()
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=bounded(
            settings.limits.connections,
            head_seconds=settings.header_seconds,
            patience=settings.limits.stalled_seconds,
        ),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
    )
    with ExitStack() as cleanup:
        for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again when it has stopped
            cleanup.callback(signal.signal, number, signal.signal(number, lambda *_: None))
        unix = listen_for_engines(settings.engine_socket)
        cleanup.callback(settings.engine_socket.unlink, missing_ok=True)
        cleanup.callback(unix.close)
        server = _Server(config, on_ready, app.close, tcp=tcp, tls=tls)
        server.run(sockets=[unix])


class _Server(uvicorn.Server):
    """Says when it is ready, and leaves the process's exit to its caller."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
        *,
        tcp: socket.socket,
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_stop = on_stop
        self._tcp = tcp
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            listener = await asyncio.get_running_loop().create_server(
                self._connection, sock=self._tcp, ssl=self._tls, backlog=self.config.backlog
            )
            self.servers.append(listener)
            spare_the_collector()
            self._on_ready()

    def _connection(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets=sockets)


def wait_for_signal() -> None:
    """Block until SIGINT or SIGTERM, for a process that serves no HTTP."""
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


def block_signals() -> None:
    """Let ``wait_for_signal`` receive what would otherwise end the process; call before threads start."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


def leave() -> None:
    """End the process now if a thread still waits for the network: what it does is redone at the next start.

    Call it last, when all that must be written is written. (The interpreter would join daemons too, if they are a
    ``ThreadPoolExecutor``'s.)
    """
    waiting = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    for thread in waiting:
        thread.join(0.2)
    if any(thread.is_alive() for thread in waiting):
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
