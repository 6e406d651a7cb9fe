"""What a login costs: create and get with a local token and with a JWT, beside the same server without a login.

``python -m benchmarks.login`` prints the ratios of processor time a request, and exits with 1 above the goal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from benchmarks.report import Row, at_most, publish
from benchmarks.wrk import SERVER_CORE, Load, measure, on_cores, task_document
from tests.auth.provider import AUDIENCE, Provider
from tests.live import LiveWeft

#: A login may cost this much more than none.
GOAL = 1.15
_LIFE = 7 * 86_400


@dataclass(frozen=True)
class Shown(Load):
    """A request that shows a token."""

    token: str | None = None

    def script(self) -> str:
        """Add the header."""
        head = "" if self.token is None else f'wrk.headers["Authorization"] = "Bearer {self.token}"\n'
        return f"{head}{super().script()}"


def rows(folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """Measure the three servers in turn, and compare the medians."""
    with servers(folder) as (found, tokens):
        spent: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for name, weft in found.items():
                for what, load in _loads(weft, tokens[name]).items():
                    assert weft.process is not None
                    outcome = measure(weft.tes, load, connections=16, seconds=seconds, pid=weft.process.pid)
                    assert outcome.bad == 0, f"{name} refused {outcome.bad} of {what}"
                    spent.setdefault((name, what), []).append(outcome.cpu)
    medians = {key: statistics.median(values) for key, values in spent.items()}
    return [
        at_most(
            f"login {name}: {what}, processor time a request", medians[name, what], medians["off", what], "µs", GOAL
        )
        for name in ("tokens", "oidc")
        for what in ("get", "create")
    ]


def _loads(weft: LiveWeft, token: str | None) -> dict[str, Shown]:
    body = task_document()
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    task = requests.post(f"{weft.tes}/tasks", data=body, headers=headers, timeout=30).json()["id"]
    return {"get": Shown(f"/tasks/{task}", token=token), "create": Shown("/tasks", body, token=token)}


@contextmanager
def servers(folder: Path) -> Iterator[tuple[dict[str, LiveWeft], dict[str, str | None]]]:
    """Serve the API without a login, with local tokens, and with an issuer; with a token for each."""
    with ExitStack() as cleanup:
        provider = cleanup.enter_context(Provider().serving())
        issuers = json.dumps([{"issuer": provider.issuer, "audience": [AUDIENCE]}])
        login = {
            "off": {},
            "tokens": {"WEFT_AUTH__LOGIN": "tokens"},
            "oidc": {"WEFT_AUTH__ISSUERS": issuers, "WEFT_FETCH__ALLOW_HOSTS": json.dumps([provider.host])},
        }
        found = {}
        for name, env in login.items():
            with on_cores(SERVER_CORE):
                found[name] = LiveWeft(folder / name, command="api", env=env).start()
            cleanup.callback(found[name].end)
        local = [sys.executable, "-m", "weft.cli", "token", "create", "ada", "--data", str(folder / "tokens")]
        made = subprocess.run(local, capture_output=True, text=True, check=True).stdout.strip()
        jwt = provider.token(exp=time.time() + _LIFE, scope="openid tes:read " + "x" * 600)
        yield found, {"off": None, "tokens": made, "oidc": jwt}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weft-login-") as folder:
        table = rows(Path(folder), rounds=chosen.rounds, seconds=chosen.seconds)
    publish(table)
    sys.exit(0 if all(row.reached for row in table) else 1)


if __name__ == "__main__":
    main()
