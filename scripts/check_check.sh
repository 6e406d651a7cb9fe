#!/usr/bin/env bash
# Check the checks: plant one fault for each in a copy of the code and expect red.
set -uo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
failed=0

fresh_copy() {
    rm -rf "$copy/code"
    mkdir "$copy/code"
    tar -C "$repository" --exclude=./.venv --exclude=./.git --exclude=./.run --exclude='./.*_cache' \
        --exclude=./demo-output -cf - . | tar -C "$copy/code" -xf -
    cd "$copy/code" || exit 2
}

run_check() {
    PYTHONPATH=$copy/code WEFT_BIN=$repository/.venv/bin scripts/check.sh "$1" >/dev/null
}

expect_red() {
    local name=$1 file=$2 fault=$3
    fresh_copy
    if ! run_check "$name"; then
        echo "check-check: $name is red before any fault was planted"
        failed=1
        return
    fi
    case $fault in
        s/*) sed -i "$fault" "$file" ;;
        *) printf '%b' "$fault" >>"$file" ;;
    esac
    if run_check "$name"; then
        echo "check-check: $name did NOT notice a fault planted in $file"
        failed=1
    else
        echo "check-check: $name notices"
    fi
}

expect_red format weft/clock.py '\n\nplanted = [ 1,2 ]\n'
expect_red lint weft/clock.py '\n\ndef planted(x=[]):\n    return x\n'
expect_red types weft/clock.py '\n\nplanted: int = "a word"\n'
expect_red imports weft/states.py '\n\nimport weft.config  # noqa\n'
expect_red imports weft/dispatch.py '\n\nimport sqlalchemy  # noqa\n'
expect_red scripts scripts/lock.sh '\nif then\n'
expect_red specs openapi/tes.yaml 's/EXECUTOR_ERROR/EXECUTOR_FAULT/'
expect_red specs openapi/wes.yaml 's/workflow_engine_version/workflow_engine_edition/'
exit $failed
