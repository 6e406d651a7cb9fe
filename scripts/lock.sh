#!/usr/bin/env bash
# Write requirements.lock (what weft needs) and requirements-dev.lock (what its tests and checks need besides)
# anew from pyproject.toml, and requirements-clients.lock (the clients of others that tests run) from
# scripts/clients.in. Needs uv. Files name versions and hashes, never where they come from.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header "$@"
}

compile --upgrade --group build --output-file requirements.lock pyproject.toml
compile --upgrade --group dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
compile --upgrade --output-file requirements-clients.lock scripts/clients.in
