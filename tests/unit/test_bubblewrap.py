"""What bubblewrap is told; that it does as it is told is in tests/contract/test_process.py."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from executors import bubblewrap
from executors.bubblewrap import Host
from executors.host import mapped
from weft.errors import ExecutorRefused
from weft.model import Mount

HOST = Host(
    bwrap="/usr/bin/bwrap",
    root=True,
    setpriv="/usr/bin/setpriv",
    system={"/usr": None, "/bin": "usr/bin"},
    etc=("passwd", "ssl/certs"),
    visible=(Path("/opt/weft"),),
)


def options(*mounts: Mount, host: Host = HOST, workdir: str = "/", user: tuple[int, int] | None = (7, 8)) -> list[str]:
    return bubblewrap.options(host, mounts, workdir=workdir, env={"A": "b"}, identity=Path("/control"), user=user)


def mount(target: str, *, read_only: bool = False) -> Mount:
    return Mount(source=Path("/data") / target.lstrip("/"), target=target, read_only=read_only)


def place(words: list[str], *sought: str) -> int:
    """Return where ``sought`` stands in ``words``, one after the other."""
    return next(start for start in range(len(words)) if tuple(words[start : start + len(sought)]) == sought)


def has(words: list[str], *sought: str) -> bool:
    return any(tuple(words[start : start + len(sought)]) == sought for start in range(len(words)))


def test_every_namespace_is_new_and_no_right_is_kept() -> None:
    words = options(user=None)
    for option in ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--die-with-parent"):
        assert option in words
    assert has(words, "--cap-drop", "ALL")
    assert "--cap-add" not in words
    assert "--clearenv" in words


def test_the_rights_to_change_user_are_kept_only_where_the_user_changes() -> None:
    assert has(options(), "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")


def test_the_network_is_shared_only_where_the_host_says_so() -> None:
    assert "--unshare-net" not in options(host=replace(HOST, network=True))


def test_mounts_come_after_what_they_cover_and_parents_before_children() -> None:
    words = options(mount("/vol/in/deep", read_only=True), mount("/tmp/x"), mount("/vol"))
    assert place(words, "--bind", "/data/vol", "/vol") < place(words, "--ro-bind", "/data/vol/in/deep", "/vol/in/deep")
    assert place(words, "--tmpfs", "/tmp") < place(words, "--bind", "/data/tmp/x", "/tmp/x")
    assert place(words, "--remount-ro", "/") > place(words, "--bind", "/data/tmp/x", "/tmp/x")


def test_a_mount_on_tmp_takes_the_place_of_the_empty_one() -> None:
    words = options(mount("/tmp"))
    assert has(words, "--bind", "/data/tmp", "/tmp")
    assert not has(words, "--tmpfs", "/tmp")


def test_folders_above_a_mount_can_be_entered_by_everybody() -> None:
    words = options(mount("/a/b/c"))
    assert has(words, "--perms", "0755", "--dir", "/a")
    assert has(words, "--perms", "0755", "--dir", "/a/b")
    assert has(words, "--perms", "0755", "--dir", "/etc")
    assert not has(words, "--dir", "/a/b/c")


def test_a_workdir_that_nothing_makes_is_an_empty_folder() -> None:
    assert has(options(workdir="/nowhere/here"), "--tmpfs", "/nowhere/here")
    assert has(options(workdir="/tmp/here"), "--tmpfs", "/tmp/here")


@pytest.mark.parametrize("workdir", ["/", "/usr/bin", "/etc", "/tmp", "/vol", "/vol/x", "/a"])
def test_a_workdir_that_is_there_is_not_covered(workdir: str) -> None:
    words = options(mount("/vol"), mount("/a/b"), workdir=workdir)
    assert has(words, "--chdir", workdir)
    assert workdir == "/tmp" or not has(words, "--tmpfs", workdir)


def test_a_folder_of_weft_is_not_bound_inside_a_users_mount() -> None:
    assert has(options(), "--ro-bind", "/opt/weft", "/opt/weft")
    assert not has(options(mount("/opt")), "--ro-bind", "/opt/weft", "/opt/weft")


def test_nothing_is_mounted_below_the_hosts_own_folders() -> None:
    with pytest.raises(ExecutorRefused, match="/usr/no/such"):
        options(mount("/usr/no/such"))
    with pytest.raises(ExecutorRefused, match="/usr/no/such"):
        options(workdir="/usr/no/such")


def test_secrets_of_etc_are_not_among_what_is_shown() -> None:
    shown = {*bubblewrap.ETC, *bubblewrap.ETC_PATTERNS}
    assert not shown & {"shadow", "gshadow", "ssh", "ssl", "ssl/private", "sudoers", "passwd", "*"}


def test_the_user_changes_before_anything_of_the_step_is_read() -> None:
    words = bubblewrap.argv(HOST, bubblewrap.inner(HOST, ["tool"], user=(7, 8), late={"LD_PRELOAD": "/x"}))
    assert words.index("/usr/bin/setpriv") < words.index("LD_PRELOAD=/x") < words.index("tool")
    assert "--reuid=7" in words
    assert words[-2:] == ["LD_PRELOAD=/x", "tool"]


def test_no_environment_and_no_mount_is_seen_in_the_process_list() -> None:
    words = bubblewrap.argv(HOST, bubblewrap.inner(HOST, ["tool"]))
    assert words == [
        *("/usr/bin/bwrap", "--json-status-fd", "4", "--sync-fd", "5", "--args", "3", "--"),
        *("/usr/bin/env", "--", "tool"),
    ]


def test_variables_of_the_loader_are_held_back() -> None:
    env = {"LD_PRELOAD": "1", "GLIBC_TUNABLES": "2", "GCONV_PATH": "3", "LC_ALL": "4", "odd.name": "5", "TOKEN": "6"}
    early, late = bubblewrap.split_environment(env)
    assert early == {"TOKEN": "6"}
    assert set(late) == set(env) - {"TOKEN"}


def test_a_plain_command_needs_no_shell() -> None:
    assert bubblewrap.prepared(["tool", "a b"]) == ["tool", "a b"]


def run(words: list[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout


def test_streams_are_opened_by_paths_that_are_never_read_as_script(tmp_path: Path) -> None:
    odd = tmp_path / "a b'$(id)\";"
    odd.mkdir()
    (odd / "in").write_text("text")
    command = ["sh", "-c", "cat; echo err >&2"]
    run(bubblewrap.prepared(command, stdin=str(odd / "in"), stdout=str(odd / "new/out"), stderr=str(odd / "err")))
    assert (odd / "new/out").read_text() == "text"
    assert (odd / "err").read_text() == "err\n"


def test_one_path_for_both_streams_gets_both(tmp_path: Path) -> None:
    both = str(tmp_path / "both")
    run(bubblewrap.prepared(["sh", "-c", "echo out; echo err >&2; echo out"], stdout=both, stderr=both))
    assert (tmp_path / "both").read_text() == "out\nerr\nout\n"


def test_a_program_whose_name_looks_like_a_variable_is_a_program(tmp_path: Path) -> None:
    program = tmp_path / "a=b"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    words = bubblewrap.inner(replace(HOST, setpriv=None), bubblewrap.prepared([str(program)]))
    assert run(words) == "ran\n"


def test_a_workdir_is_made_and_entered(tmp_path: Path) -> None:
    assert run(bubblewrap.prepared(["pwd"], workdir=str(tmp_path / "x/y"))) == f"{tmp_path}/x/y\n"


def test_mounts_inside_mounts_are_named_so_that_links_can_be_refused() -> None:
    assert bubblewrap.nested([mount("/vol"), mount("/vol/a/b"), mount("/other")]) == [["/data/vol", "a/b"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/vol", "/host/1"),
        ("/vol/x", "/host/1/x"),
        ("/vol/in/x", "/host/2/x"),
        ("if=/vol/x", "if=/host/1/x"),
        ("cat '/vol/x' \"/vol/y\";ls /vol", "cat '/host/1/x' \"/host/1/y\";ls /host/1"),
        ("/vol:/vol/in", "/host/1:/host/2"),
        ("/volume", "/volume"),
        ("/vol2/x", "/vol2/x"),
        ("/my/vol/x", "/my/vol/x"),
        ("./vol", "./vol"),
        ("/vol.txt", "/vol.txt"),
        ("/vol-old/x", "/vol-old/x"),
        ("/etc/passwd", "/etc/passwd"),
    ],
)
def test_without_a_sandbox_only_whole_container_paths_become_host_paths(text: str, expected: str) -> None:
    mounts = (Mount(source=Path("/host/1"), target="/vol"), Mount(source=Path("/host/2"), target="/vol/in"))
    assert mapped(text, mounts) == expected


def test_a_host_path_is_not_mapped_again() -> None:
    mounts = (Mount(source=Path("/b/x"), target="/a"), Mount(source=Path("/c"), target="/b"))
    assert mapped("/a /b", mounts) == "/b/x /c"
