"""Page tokens: what a list gave is taken back, anything else is refused."""

import base64

import pytest

from weft import paging
from weft.errors import InvalidRequest


def test_a_token_gives_its_cursor_back_in_its_own_scope() -> None:
    assert paging.decode(paging.encode("01abc", "tasks of alice"), "tasks of alice") == "01abc"


def test_a_token_is_safe_in_a_query_string() -> None:
    token = paging.encode("01kdvdna00em29nt8381em80b5", "x")
    assert all(character.isalnum() or character in "-_" for character in token)


GENUINE = paging.encode("01abc", "mine")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "garbage",
        "ä",
        "\ud800",
        "=" * 8,
        "A" * 100_000,
        GENUINE + "=",
        GENUINE + "A",
        GENUINE[:-1],
        " " + GENUINE,
        paging.encode("01abc", "another list"),
        base64.urlsafe_b64encode(b'{"v":1,"c":"01abd","h":""}').decode().rstrip("="),
        base64.urlsafe_b64encode(b'{"v":1,"c":null,"h":""}').decode().rstrip("="),
        base64.urlsafe_b64encode(b"[1]").decode().rstrip("="),
        base64.urlsafe_b64encode(b'{"v":1,"c":"\\ud800"}').decode().rstrip("="),
        *(GENUINE[:index] + chr(ord(GENUINE[index]) ^ 1) + GENUINE[index + 1 :] for index in range(len(GENUINE))),
    ],
)
def test_what_this_list_did_not_give_is_refused(token: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        paging.decode(token, "mine")
    assert caught.value.field == "page_token"
    assert caught.value.remedy
