"""Secrets are planted wherever a client or a site can put one, and looked for in everything that weft wrote."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.auth.conftest import basic, bearer
from tests.auth.provider import AUDIENCE, Provider
from tests.live import LiveWeft
from weft.logs import masked


def _secret(name: str) -> str:
    return f"planted-{name}-{secrets.token_hex(8)}"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Authorization: Bearer abcdefgh.ij", "Authorization: Bearer ***"),
        ("sent Basic YWRhOnNlY3JldA== to x", "sent Basic *** to x"),
        ("at https://ada:pw@host/x?y=1", "at https://***@host/x?y=1"),
        ("postgresql+psycopg://weft:pw@db:5432/weft", "postgresql+psycopg://***@db:5432/weft"),
        ("GET /x?access_token=abc&y=1", "GET /x?access_token=***&y=1"),
        ("https://s3/x?X-Amz-Signature=0aF&X-Amz-Credential=AK%2F1", "https://s3/x?X-Amz-Signature=***&X-Amz-Credential=***"),
        ('{"client_secret":"abc","id":"1"}', '{"client_secret":"***","id":"1"}'),
        ("password: hunter2, next", "password: ***, next"),
        ("weft_0123456789abcdefABCDEF", "***"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln", "***"),
        ("task 01kdvdna0b moved to RUNNING, path=/runs/x", "task 01kdvdna0b moved to RUNNING, path=/runs/x"),
    ],
)  # fmt: skip
def test_a_line_of_the_log_shows_no_secret(line: str, shown: str) -> None:
    assert masked(line) == shown


def test_nothing_that_weft_writes_holds_a_planted_secret(tmp_path: Path, provider: Provider) -> None:
    planted = {
        name: _secret(name)
        for name in ("client", "s3", "drs", "ftp", "store", "opaque", "basic", "query", "url", "sig")
    }
    issuer = {
        "issuer": provider.issuer,
        "audience": [AUDIENCE],
        "opaque": "introspection",
        "client_id": "weft",
        "client_secret": planted["client"],
        "passport": "userinfo",
    }
    env = {
        "WEFT_LOG_LEVEL": "DEBUG",
        "WEFT_LOG_JSON": "true",
        "WEFT_FETCH__ALLOW_HOSTS": f'["{provider.host}"]',
        "WEFT_S3__SECRET_ACCESS_KEY": planted["s3"],
        "WEFT_DRS__TOKENS": f'{{"drs.example.org": "{planted["drs"]}"}}',
        "WEFT_FTP__HOSTS": f'{{"ftp.example.org": {{"user": "u", "password": "{planted["ftp"]}"}}}}',
        "WEFT_STORAGE": json.dumps({"reads": {"prefixes": [f"{provider.issuer}/x"], "bearer": planted["store"]}}),
        "WEFT_AUTH__ISSUERS": json.dumps([issuer]),
        "WEFT_AUTH__VISA_ISSUERS": json.dumps([{"issuer": provider.issuer, "jku": provider.jku, "sources": ["*"]}]),
    }
    weft = LiveWeft(tmp_path / "data", flags=("--executor", "process"), env=env).start()
    try:
        local = _tool(weft, env, "token", "create", "ada").strip()
        good = provider.token()
        visa, bad_visa = provider.visa(), provider.visa(exp=1)
        passport = provider.passport_of(visa, bad_visa)
        provider.userinfo[good] = {"sub": "ada", "ga4gh_passport_v1": [visa, bad_visa]}
        expired, forged = provider.token(exp=1), provider.token(header_kid="x")
        task: dict[str, Any] = {"executors": [{"image": "busybox", "command": ["true"]}]}
        for headers in (
            bearer(good), bearer(good, passport), bearer(expired), bearer(forged, passport), bearer(planted["opaque"]),
            bearer(local), basic("ada", local), basic("ada", planted["basic"]), {"Authorization": planted["basic"]},
        ):  # fmt: skip
            requests.get(f"{weft.tes}/tasks?token={planted['query']}", headers=headers, timeout=30)
            requests.get(f"{weft.wes}/runs/x?{planted['query']}", headers=headers, timeout=30)
        provider.down = True
        requests.get(f"{weft.tes}/tasks", headers=bearer(_secret("opaque")), timeout=30)
        url = f"https://ada:{planted['url']}@example.org/x"
        refused = requests.post(
            f"{weft.tes}/tasks",
            json={**task, "inputs": [{"url": url, "path": "/x"}]},
            headers=bearer(local),
            timeout=30,
        )
        assert refused.status_code == 400
        assert planted["url"] not in refused.text
        signed = f"{provider.issuer}/x?X-Amz-Signature={planted['sig']}"
        made = requests.post(
            f"{weft.tes}/tasks",
            json={**task, "inputs": [{"url": signed, "path": "/x"}]},
            headers=bearer(local),
            timeout=30,
        ).json()
        ended = _ended(weft, made["id"], local)
        assert ended["state"] == "SYSTEM_ERROR"
        assert f"Bearer {planted['store']}" in provider.authorizations
        assert planted["sig"] not in str(ended["logs"])
        shown = _tool(weft, env, "check") + _tool(weft, env, "token", "list")
    finally:
        weft.end()
    tokens = [local, good, expired, forged, passport, visa, bad_visa]
    hidden = {**planted, **{f"token {number}": token for number, token in enumerate(tokens)}}
    hidden |= {f"base64 of {name}": base64.b64encode(f"ada:{text}".encode()).decode() for name, text in hidden.items()}
    for name, text in hidden.items():
        assert text not in weft.log(), name
        assert text not in shown, name
        written = [str(path) for path in weft.data.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]
        # a signed address that a client gives is part of the task, as the client wrote it
        assert [path for path in written if name != "sig" or "weft.db" not in path] == [], name
    assert "request refused" in weft.log()


def _tool(weft: LiveWeft, env: dict[str, str], *arguments: str) -> str:
    argv = [sys.executable, "-m", "weft.cli", *arguments, "--data", str(weft.data)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WEFT_")}
    return subprocess.run(argv, env=clean | env, capture_output=True, text=True, timeout=60, check=True).stdout


def _ended(weft: LiveWeft, task_id: str, token: str) -> dict[str, Any]:
    while True:
        answer = requests.get(f"{weft.tes}/tasks/{task_id}?view=FULL", headers=bearer(token), timeout=30)
        assert answer.status_code == 200, answer.text
        task: dict[str, Any] = answer.json()
        if task["state"] in ("COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED"):
            return task
