#!/usr/bin/env bash
# Write requirements.lock (what weft needs) and requirements-dev.lock (what its tests and checks need besides)
# anew from pyproject.toml. Needs uv. Files name versions and hashes, never where they come from.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
        "$@" pyproject.toml
}

compile --upgrade --group build --output-file requirements.lock
compile --upgrade --group dev --constraint requirements.lock --output-file requirements-dev.lock
