"""Translate one Snakemake job into the words of a TES task. Pure."""

from __future__ import annotations

import math
from typing import Any

from wes_service.engines.tes_client import JsonObject

#: $1 shell, $2 its prefix, $3 the command, $4 the command for plain sh. Busybox's sh knows pipefail, dash does not.
LAUNCHER = """\
[ -z "$TMPDIR" ] || [ -d "$TMPDIR" ] || mkdir -p "$TMPDIR" 2>/dev/null
for shell in "$1" "${1##*/}"; do
  if command -v "$shell" >/dev/null 2>&1; then exec "$shell" -c "$2$3"; fi
done
if [ "${1##*/}" != bash ]; then echo "the shell $1 is not in this container" >&2; exit 127; fi
if (set -o pipefail) 2>/dev/null; then exec sh -c "set -euo pipefail; $4$3"; fi
exec sh -c "set -eu; $4$3"
"""
#: Snakemake's command line, without the wait for a timer that it leaves behind.
SNAKEMAKE = """\
import os, sys
from snakemake.cli import main
try:
    main(sys.argv[3:])
    code = 0
except SystemExit as end:
    code = end.code if isinstance(end.code, int) else 1
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
"""
#: The variables that Snakemake sets to the rule's threads.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
TMP_VARIABLES = ("TMPDIR", "TMP", "TEMPDIR", "TEMP")


class CannotRun(Exception):
    """A job that can never become a task; the text says why."""


def is_plain_shell(job: Any) -> bool:
    """Tell whether the job is a rule's own shell command and nothing more."""
    return not job.is_group() and job.is_shell and not job.is_template_engine


def container_of(job: Any) -> str | None:
    """Return the rule's image as Docker names it.

    :raises CannotRun: the rule names something else than a Docker image.
    """
    url = job.container_img_url
    if not url:
        return None
    scheme, separator, rest = str(url).partition("://")
    if not separator:
        raise CannotRun(f"rule {job.rule.name}: container {url!r} is not a docker:// URL")
    if scheme != "docker":
        raise CannotRun(f"rule {job.rule.name}: container {url!r}: only docker:// images can be run")
    return rest


def resources_of(job: Any, time_limit_parameter: str | None = None) -> JsonObject:
    """Translate Snakemake's words to TES: ``threads``, ``mem_mb``, ``disk_mb``, and ``runtime`` in minutes."""
    given = job.resources
    resources: JsonObject = {"cpu_cores": max(1, int(job.threads))}
    for name, target in (("mem_mb", "ram_gb"), ("disk_mb", "disk_gb")):
        amount = given.get(name)
        if isinstance(amount, int | float):
            resources[target] = amount / 1000
    minutes = given.get("runtime")
    if time_limit_parameter and isinstance(minutes, int | float):
        resources["backend_parameters"] = {time_limit_parameter: str(math.ceil(minutes * 60))}
    return resources


def thread_environment(job: Any) -> dict[str, str]:
    """Return the variables that Snakemake sets for a shell command."""
    variables = dict.fromkeys(THREAD_VARIABLES, str(job.threads))
    tmpdir = job.resources.get("tmpdir")
    return {**variables, **dict.fromkeys(TMP_VARIABLES, str(tmpdir))} if tmpdir else variables
