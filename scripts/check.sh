#!/usr/bin/env bash
# Hold the code against its rules: format, lint, types, who may import whom, the specs. Says each check's name; all of them run.
#
#   scripts/check.sh [format|lint|types|imports|scripts|specs]…      (all of them, without a name)
set -uo pipefail
cd "$(dirname "$0")/.."
bin=${WEFT_BIN:-.venv/bin}
failed=0

check() {
    local name=$1
    shift
    if output=$("$@" 2>&1); then
        echo "check: $name ok"
    else
        echo "check: $name FAILED"
        printf '%s\n' "$output"
        failed=1
    fi
}

for name in ${*:-format lint types imports scripts specs}; do
    case $name in
        format) check format "$bin/ruff" format --check . ;;
        lint) check lint "$bin/ruff" check . ;;
        types) check types "$bin/mypy" ;;
        imports) check imports "$bin/lint-imports" ;;
        scripts) for script in scripts/*.sh .ci/run; do check "$script" bash -n "$script"; done ;;
        specs) check specs "$bin/python" -m pytest -q -p no:cacheprovider tests/unit/test_openapi_*.py ;;
        *) echo "no such check: $name" >&2; exit 2 ;;
    esac
done
exit $failed
