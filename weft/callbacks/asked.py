"""Which callbacks a new job has: the one that its client asked for by header, and the site's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from weft.callbacks.signature import REMEDY, key_of
from weft.errors import Forbidden, InvalidRequest
from weft.model import Callback, Place, Principal
from weft.sections.service import CallbackSettings

URL = "Weft-Callback"
SECRET = "Weft-Callback-Secret"  # noqa: S105  # the header's name
_LONGEST_URL = 2048


class Callbacks:
    """Reads the headers of a create."""

    def __init__(self, settings: CallbackSettings, check_url: Callable[[str], object]) -> None:
        """Keep the settings.

        :param check_url: raises ``InvalidRequest`` or ``Forbidden`` for what the guarded client would never call.
        """
        self._settings = settings
        self._check_url = check_url

    def asked(self, headers: Mapping[str, str], principal: Principal) -> tuple[Callback, ...]:
        """Return the callbacks of a job that ``principal`` creates by a request with these headers.

        :param headers: names in lower case.
        :raises InvalidRequest: names the header that is wrong and the remedy.
        """
        return (*self._of_client(headers, principal), *self._of_site(principal))

    def _of_client(self, headers: Mapping[str, str], principal: Principal) -> tuple[Callback, ...]:
        url, secret = headers.get(URL.lower()), headers.get(SECRET.lower())
        if url is None and secret is None:
            return ()
        if principal.run is not None:
            raise InvalidRequest("the tasks of a run have no callbacks", field=URL, remedy="ask for one with the run")
        if not self._settings.by_clients:
            raise InvalidRequest("this site calls no URL of a client", field=URL, remedy="poll the job instead")
        if url is None:
            raise InvalidRequest(f"{SECRET} came without {URL}", field=URL, remedy="send both, or neither")
        self._check(url)
        return (Callback(place=Place.CLIENT, url=url, secret=_checked(secret), running=self._settings.running),)

    def _check(self, url: str) -> None:
        if len(url) > _LONGEST_URL or not url.isascii():
            remedy = f"at most {_LONGEST_URL} characters of ASCII; others are written with %"
            raise InvalidRequest("the callback's URL is too long, or not ASCII", field=URL, remedy=remedy)
        try:
            self._check_url(url)
        except (InvalidRequest, Forbidden) as error:
            remedy = error.remedy or "use a public https URL"
            raise InvalidRequest(f"{URL}: {error.message}", field=URL, remedy=remedy) from error

    def _of_site(self, principal: Principal) -> tuple[Callback, ...]:
        if self._settings.url is None or principal.run is not None:
            return ()
        return (Callback(place=Place.SITE, url=self._settings.url, running=self._settings.running),)


def _checked(secret: str | None) -> str:
    if secret is None:
        message = f"a callback is signed, and there is no {SECRET} to sign it with"
        raise InvalidRequest(message, field=SECRET, remedy=REMEDY)
    try:
        key_of(secret)
    except InvalidRequest as error:
        raise InvalidRequest(f"{SECRET}: {error.message}", field=SECRET, remedy=error.remedy) from error
    return secret
