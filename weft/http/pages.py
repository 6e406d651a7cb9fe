"""The pages that belong to no API: the front page, and the two questions that supervisors ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from weft import __version__
from weft.errors import Unavailable

_FRONT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>weft</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{padding:.3rem 1rem .3rem 0;text-align:left}}</style>
<h1>weft {version}</h1>
<p>A GA4GH workflow and task execution service.</p>
<table><tr><th>API</th><th>try it</th><th>specification</th><th>about</th></tr>
{rows}</table>
<p><a href="/healthz">/healthz</a> tells whether this process lives,
<a href="/readyz">/readyz</a> whether it can take requests.</p>
"""
_ROW = (
    '<tr><td>{name}</td><td><a href="{base}/ui/">{base}/ui/</a></td><td><a href="{base}/openapi.json">openapi.json'
    '</a></td><td><a href="{base}/service-info">service-info</a></td></tr>\n'
)


def front_page(apis: Sequence[tuple[str, str]]) -> Callable[[], tuple[str, int, dict[str, str]]]:
    """Return the view of ``/``; ``apis`` are (name, base path) pairs."""
    rows = "".join(_ROW.format(name=escape(name), base=escape(base)) for name, base in apis)
    page = _FRONT.format(version=escape(__version__), rows=rows)
    return lambda: (page, 200, {"Content-Type": "text/html; charset=utf-8"})


def healthz() -> dict[str, str]:
    """Say that this process answers."""
    return {"status": "ok"}


def readyz(ready: Callable[[], bool]) -> Callable[[], dict[str, str]]:
    """Return the view of ``/readyz``."""

    def view() -> dict[str, str]:
        if not ready():
            raise Unavailable("weft is not ready: its database does not answer")
        return {"status": "ready"}

    return view
