"""``ftp://HOST/PATH`` by the standard library, passive, with restart (RFC 959, RFC 3659) and guarded addresses.

A host in ``ftp.tls_hosts`` is spoken to by TLS, on both connections (RFC 4217), and never without. Elsewhere
FTP is plain text, so it obeys the rule for plain http: a host must be listed, in ``fetch.allow_hosts`` or with a login
in ``ftp.hosts``. The name is resolved once, every address is checked, and both connections go to the checked one: what
the server says about the address of its data connection is not used.
"""

from __future__ import annotations

import ftplib
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import quote_from_bytes, unquote, urlsplit

from weft.config import Settings
from weft.errors import InvalidRequest, StagingFailed, TooLarge, Unavailable
from weft.model import FileType
from weft.ports import Entry, Stager
from weft.sections.transfer import FetchSettings, FtpSettings
from weft.staging import halt
from weft.staging.addresses import Place, check_place, place
from weft.staging.guard import Resolve, checked_addresses, resolve, trusting_context
from weft.staging.urls import shown

_CHUNK = 1 << 18
_MOST_STALLS = 3  # interruptions in a row without one new byte
_DEEPEST = 64
_MOST_ENTRIES = 1_000_000
_MISSING = ("550", "551")


def create(settings: Settings) -> Stager:
    """Return the stager; it connects nowhere yet."""
    return FtpStager(settings.ftp, settings.fetch)


class FtpStager(Stager):
    """Moves files by binary transfers; one control connection for each call."""

    schemes = frozenset({"ftp"})

    def __init__(
        self,
        settings: FtpSettings,
        fetch: FetchSettings,
        *,
        resolver: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep the settings; tests pass a resolver and a TLS context of their own."""
        self._logins = {host.lower(): login for host, login in settings.hosts.items()}
        self._fetch = fetch
        self._secure_hosts = frozenset(host.lower() for host in settings.tls_hosts)
        self._tls = tls
        self._hosts = (*fetch.allow_hosts, *self._logins, *self._secure_hosts)
        self._resolve = resolver
        self._now = now

    def check(self, url: str, *, writing: bool) -> None:
        """Ask the guard, and refuse paths that no FTP command can carry."""
        self._place(url)
        _path(url)

    def download(self, url: str, target: Path) -> None:
        """RETR, going on where it broke as long as size and time of the file stay the same."""
        part = target.with_name(f"{target.name}.part")
        try:
            with part.open("wb") as stream:
                self._fill(url, stream)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def list(self, url: str) -> Iterable[Entry]:
        """MLSD, folder by folder; links and what is neither file nor folder are left out."""
        top = _path(url)
        found: list[Entry] = []
        with self._said(url), self._connected(url) as ftp:
            folders = [""]
            while folders:
                relative = folders.pop()
                if relative.count("/") > _DEEPEST or len(found) + len(folders) > _MOST_ENTRIES:
                    raise StagingFailed(f"too many files, or folders nested too deep, at {shown(url)}")
                for name, facts in ftp.mlsd(f"{top}/{relative}" if relative else top, facts=["type", "size"]):
                    below = f"{relative}/{name}" if relative else name
                    match facts.get("type", "").lower():
                        case "dir":
                            folders.append(below)
                        case "file":
                            found.append(Entry(path=below, size_bytes=int(facts["size"]) if "size" in facts else None))
        return found

    def upload(self, source: Path, url: str) -> None:
        """STOR under a temporary name, then rename; folders on the way are made."""
        path = PurePosixPath(_path(url))
        part = str(path.with_name(f".{path.name}.weft-part"))
        with self._said(url), self._connected(url) as ftp:
            for parent in reversed(path.parents[:-1]):
                with suppress(ftplib.error_perm):  # it is there
                    ftp.mkd(str(parent))
            try:
                with source.open("rb") as stream:
                    ftp.storbinary(f"STOR {part}", stream, _CHUNK)
                _renamed(ftp, part, str(path))
            except ftplib.error_perm:
                with suppress(ftplib.Error):
                    ftp.delete(part)
                raise

    def kind(self, url: str) -> FileType | None:
        """Try to enter it, then ask for its size."""
        path = _path(url)
        with self._said(url), self._connected(url) as ftp:
            with suppress(ftplib.error_perm):
                ftp.cwd(path)
                return FileType.DIRECTORY
            with suppress(ftplib.error_perm):
                ftp.voidcmd("TYPE I")
                ftp.size(path)
                return FileType.FILE
        return None

    def join(self, url: str, relative: str) -> str:
        """Escape the name."""
        return f"{url.rstrip('/')}/{quote_from_bytes(relative.encode('utf-8', 'surrogateescape'))}"

    def _fill(self, url: str, stream: IO[bytes]) -> None:
        deadline = self._now() + self._fetch.total_seconds
        proof: tuple[int, str] | None = None
        stalls = 0
        while True:
            before = stream.tell()
            try:
                with self._said(url), self._connected(url) as ftp:
                    found = _proof(ftp, _path(url))
                    if found is None or found != proof:
                        stream.seek(0)
                        stream.truncate()
                    proof = found
                    self._receive(ftp, url, stream, deadline)
                if proof is not None and stream.tell() != proof[0]:
                    raise Unavailable(f"{stream.tell()} bytes instead of {proof[0]} at {shown(url)}")
                return
            except Unavailable:
                stalls = 0 if stream.tell() > before else stalls + 1
                if stalls >= _MOST_STALLS or proof is None or self._now() > deadline:
                    raise

    def _receive(self, ftp: ftplib.FTP, url: str, stream: IO[bytes], deadline: float) -> None:
        with ftp.transfercmd(f"RETR {_path(url)}", rest=stream.tell() or None) as connection:
            while chunk := connection.recv(_CHUNK):
                stream.write(chunk)
                halt.check()
                if stream.tell() > self._fetch.max_bytes:
                    raise TooLarge(f"{shown(url)} is larger than {self._fetch.max_bytes} bytes")
                if self._now() > deadline:
                    raise Unavailable(f"{shown(url)} took too long")
        ftp.voidresp()

    @contextmanager
    def _connected(self, url: str) -> Iterator[ftplib.FTP]:
        where = self._place(url)
        ftp = self._client(where)
        try:
            self._connect(ftp, where)
            if isinstance(ftp, _SecureFtp):
                ftp.secure(where.host)
            login = self._logins.get(where.host)
            if login is None:
                ftp.login()
            else:
                ftp.login(login.user, login.password.get_secret_value())
            ftp.voidcmd("TYPE I")
            yield ftp
            with suppress(ftplib.Error, OSError, EOFError):
                ftp.quit()
        finally:
            ftp.close()

    def _client(self, where: Place) -> ftplib.FTP:
        if where.host not in self._secure_hosts:
            return ftplib.FTP(encoding="utf-8")  # noqa: S321  # plain text, for listed hosts alone
        if self._tls is None:
            self._tls = trusting_context()
        return _SecureFtp(context=self._tls, encoding="utf-8")  # never without TLS

    def _connect(self, ftp: ftplib.FTP, where: Place) -> None:
        """Try the addresses in turn; every one must pass, or none is used."""
        failure: OSError | None = None
        for address in checked_addresses(where, self._resolve, self._hosts):
            try:
                ftp.connect(address, where.port, timeout=self._fetch.connect_seconds)
            except OSError as error:
                failure = error
                continue
            assert ftp.sock is not None
            ftp.sock.settimeout(self._fetch.read_seconds)
            ftp.timeout = self._fetch.read_seconds
            return
        raise Unavailable(f"no connection to {where.netloc}") from failure

    @contextmanager
    def _said(self, url: str) -> Iterator[None]:
        """Translate errors of the protocol; a reply of 4yz says to try again (RFC 959, 4.2.1)."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise StagingFailed(f"no trusted TLS connection to {shown(url)}: {error.verify_message}") from error
        except ftplib.error_temp as error:
            raise Unavailable(f"{error} at {shown(url)}") from error
        except ftplib.error_perm as error:
            code = str(error)[:3]
            words = "no such file, or no permission" if code in _MISSING else str(error)
            raise StagingFailed(f"{words} ({code}) at {shown(url)}") from error
        except (ftplib.error_reply, ftplib.error_proto, ValueError) as error:
            raise StagingFailed(f"the FTP server's answer makes no sense at {shown(url)}: {error!r}") from error
        except (OSError, EOFError) as error:
            raise Unavailable(f"the connection broke at {shown(url)}: {type(error).__name__}") from error

    def _place(self, url: str) -> Place:
        where = place(url, ("ftp",))
        check_place(where, self._hosts, only_listed=self._fetch.only_listed)
        return where


class _SecureFtp(ftplib.FTP_TLS):
    """Both connections by TLS, the second as a part of the first one's session, as many servers ask."""

    def secure(self, host: str) -> None:
        """Begin TLS before anything is said, and verify that the certificate is ``host``'s."""
        self.host = host
        self.auth()
        self.prot_p()

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)  # noqa: S321
        session = self.sock.session if isinstance(self.sock, ssl.SSLSocket) else None
        return self.context.wrap_socket(connection, server_hostname=self.host, session=session), size


def _path(url: str) -> str:
    """Return the decoded path; FTP commands are lines, so it holds no control characters.

    :raises InvalidRequest: it does, or it leads upwards.
    """
    path = unquote(urlsplit(url).path, errors="surrogateescape") or "/"
    if any(ord(char) < 32 or ord(char) == 127 or "\ud800" <= char <= "\udfff" for char in path):
        raise InvalidRequest(f"{shown(url)!r}: control characters, or no UTF-8, in the path", field="url")
    if ".." in path.split("/"):
        raise InvalidRequest(f"{shown(url)!r}: '..' in the path", field="url", remedy="write the path out")
    return path


def _proof(ftp: ftplib.FTP, path: str) -> tuple[int, str] | None:
    """Return what tells that a file is still the same: its size and its time; None where the server cannot say."""
    try:
        size = ftp.size(path)
        return None if size is None else (size, ftp.voidcmd(f"MDTM {path}"))
    except ftplib.error_perm as error:
        if str(error)[:3] in _MISSING:
            raise
        return None


def _renamed(ftp: ftplib.FTP, part: str, path: str) -> None:
    """Rename; some servers do not replace what is there."""
    try:
        ftp.rename(part, path)
    except ftplib.error_perm:
        ftp.delete(path)
        ftp.rename(part, path)
