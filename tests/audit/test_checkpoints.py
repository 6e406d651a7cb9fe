"""The key that verifies checkpoints: what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.audit import checkpoints
from weft.errors import InvalidRequest


def test_a_folder_without_a_record_is_called_so_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no audit record here") as refused:
        checkpoints.read_public_key(tmp_path / "public.pem")
    assert "--data" in (refused.value.remedy or "")


def test_an_empty_key_file_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "public.pem").touch()
    with pytest.raises(InvalidRequest, match="holds no public key"):
        checkpoints.read_public_key(tmp_path / "public.pem")
