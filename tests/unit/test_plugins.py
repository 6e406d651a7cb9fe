"""Plug-ins are found by entry point, imported late, and a broken one is reported on use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from weft.errors import InvalidRequest
from weft.plugins import PluginBroken, Plugins

GROUP = "weft.test_plugins"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution with one good and two broken plug-ins."""
    (tmp_path / "weft_good_plugin.py").write_text("def create(settings):\n    return ('good', settings)\n")
    (tmp_path / "weft_bad_plugin.py").write_text("import a_module_that_nobody_has\n")
    info = tmp_path / "plugins_of_the_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins-of-the-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\ngood = weft_good_plugin:create\nbad = weft_bad_plugin:create\nhollow = weft_good_plugin:nothing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("weft_good_plugin", "weft_bad_plugin"):
        sys.modules.pop(name, None)


def test_looking_imports_nothing(site: Path) -> None:
    assert Plugins(GROUP).names == ("bad", "good", "hollow")
    assert "weft_good_plugin" not in sys.modules


def test_a_good_plugin_gives_its_factory(site: Path) -> None:
    assert Plugins(GROUP).load("good")("settings") == ("good", "settings")


def test_a_broken_plugin_says_why_each_time_and_stops_nobody_else(site: Path) -> None:
    plugins = Plugins(GROUP)
    for _ in range(2):
        with pytest.raises(PluginBroken, match="a_module_that_nobody_has") as caught:
            plugins.load("bad")
        assert "weft[bad]" in str(caught.value.remedy)
    assert plugins.load("good")


def test_the_broken_ones_can_be_listed(site: Path) -> None:
    broken = {item.name: type(item.error) for item in Plugins(GROUP).broken()}
    assert broken == {"bad": ModuleNotFoundError, "hollow": AttributeError}


def test_an_unknown_name_lists_the_known(site: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Plugins(GROUP).load("nonsense")
    assert caught.value.remedy == "one of: bad, good, hollow"


def test_an_empty_group_is_no_error() -> None:
    assert Plugins("weft.nobody_has_this_group").names == ()
