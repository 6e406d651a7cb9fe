"""The files by which a step runs in an image that has nothing of weft's: a shell fragment for each step. Pure.

Every value is a quoted word of the shell; none is expanded.
"""

from __future__ import annotations

from shlex import quote

from weft.model import Step

#: The step runner, as steps see it.
RUN = "/weft/run"
#: Where programs are looked for when the step's environment names no PATH.
_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def fragment(step: Step) -> str:
    """Return what the step runner reads: variables, and ``run STDIN STDOUT STDERR``, which becomes the step's program.

    The program is looked for here, along the step's own PATH, as busybox would take its own applets before those of
    the image.
    """
    words = {
        "workdir": step.workdir or "",
        "stdin": step.stdin or "/dev/null",
        "stdout": step.stdout or "",
        "stderr": step.stderr or "",
        "ignore_error": "1" if step.ignore_error else "0",
        "program": step.command[0],
    }
    lines = [f"{name}={quote(value)}" for name, value in words.items()]
    path = step.env.get("PATH")
    lines.append(f"path={quote(path)}" if path is not None else f'path="${{PATH:-{_DEFAULT}}}"')
    settings = [f"{name}={value}" for name, value in step.env.items()]
    env = " ".join(quote(word) for word in settings)
    arguments = " ".join(quote(word) for word in step.command[1:])
    lines += [
        "find_program() {",
        "    case $program in */*) found=$program; return ;; esac",
        "    found=; rest=$path:",
        '    while [ -n "$rest" ]; do',
        "        folder=${rest%%:*}; rest=${rest#*:}",
        '        if [ -f "${folder:-.}/$program" ] && [ -x "${folder:-.}/$program" ]; then',
        "            found=${folder:-.}/$program; return",
        "        fi",
        "    done",
        "}",
        "run() {",
        '    exec <"$1" >"$2" 2>"$3" 3>&-',
        "    find_program",
        '    [ -n "$found" ] || { echo "weft: there is no program $program in the image" >&2; exit 127; }',
        f'    exec "$box" env {env} "$found" {arguments}',
        "}",
    ]
    return "\n".join(lines) + "\n"
