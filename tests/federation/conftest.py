"""A hub and its nodes: real servers on loopback, each with a data folder of its own, stopped by their own pids."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from tests.live import LiveWeft
from weft.cli import main


class Federation:
    """Starts a hub and lets sites join it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub = LiveWeft(folder / "hub", env={"WEFT_EXECUTOR": "node", "WEFT_LEASE_SECONDS": "3"})
        self.sites: dict[str, LiveWeft] = {}
        self.files = folder / "files"
        self.files.mkdir()
        self.files.chmod(0o777)

    def weft(self, data: Path, *argv: str) -> str:
        """Run one command of the command line in this process and return what it printed on stdout."""
        done = CliRunner().invoke(main, [*argv, "--data", str(data)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    def join(
        self, name: str, *, hub: str | None = None, env: dict[str, str] | None = None, datasets: Path | None = None
    ) -> LiveWeft:
        """Invite and join a site that declares what is in the file ``datasets``, and start its server."""
        own = {"WEFT_EXECUTOR": "process", "WEFT_FILE_ROOTS": f'["{self.files}"]', "WEFT_WRITABLE_INPUTS": "true"}
        site = LiveWeft(self.folder / name, env=own | {"WEFT_LEASE_SECONDS": "3"} | (env or {}))
        site.data.mkdir()
        token = self.weft(self.hub.data, "node", "invite", name).strip()
        self.weft(
            site.data,
            "node",
            "join",
            hub or self.hub.url,
            "--name",
            name,
            "--token",
            token,
            *(("--datasets", str(datasets)) if datasets else ()),
        )
        self.sites[name] = site
        return site.start()

    def end(self) -> None:
        for site in self.sites.values():
            site.end()
        self.hub.end()
