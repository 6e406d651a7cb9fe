"""Which user a task may choose to run as."""

from __future__ import annotations

import pytest

from weft.errors import ExecutorRefused
from weft.model import Resources
from weft.prepare import chosen_user


def test_a_task_that_names_no_user_gets_the_one_that_weft_gives_it() -> None:
    assert chosen_user(None, {1000}) is None
    assert chosen_user(Resources(), {1000}) is None


def test_a_listed_user_is_taken() -> None:
    assert chosen_user(Resources(backend_parameters={"user": "1000"}), {1000}) == 1000


@pytest.mark.parametrize("asked", ["0", "root", "1001", "-1", "1000:0", "", "\uff11\uff10", "9" * 5000])
def test_any_other_user_is_refused(asked: str) -> None:
    with pytest.raises(ExecutorRefused, match="none of the users"):
        chosen_user(Resources(backend_parameters={"user": asked}), {1000})
