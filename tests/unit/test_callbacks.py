"""Callbacks: which a request asks for, how they are signed, and how long they are tried."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import pytest
from pydantic import SecretStr

from tests.builders import NOW
from tests.fakes import Clock
from tests.testbeds.receiver import Receiver
from weft.callbacks.asked import Callbacks
from weft.callbacks.sender import FIRST_PAUSE, LASTS, LONGEST_PAUSE, Sender
from weft.callbacks.signature import signed
from weft.errors import InvalidRequest
from weft.model import Callback, Delivery, Kind, Place, Principal
from weft.sections.service import CallbackSettings
from weft.sections.transfer import FetchSettings
from weft.staging.guard import GuardedClient
from weft.states import State

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
ALICE = Principal(issuer="weft", subject="alice")
URL, KEY = "weft-callback", "weft-callback-secret"


def asked(headers: dict[str, str], principal: Principal = ALICE, **settings: object) -> tuple[Callback, ...]:
    callbacks = Callbacks(CallbackSettings.model_validate(settings), GuardedClient(FetchSettings()).check)
    return callbacks.asked(headers, principal)


def test_a_client_names_a_url_and_the_secret_that_signs() -> None:
    headers = {URL: "https://hook.example/x?y=1", KEY: SECRET}
    assert asked(headers) == (Callback(place=Place.CLIENT, url="https://hook.example/x?y=1", secret=SECRET),)
    assert asked({}) == ()


def test_the_sites_own_callback_is_for_every_job_but_the_tasks_of_runs() -> None:
    site = {"url": "https://site.example", "secret": SecretStr(SECRET), "running": True}
    assert asked({}, **site) == (Callback(place=Place.SITE, url="https://site.example", running=True),)
    assert asked({}, replace(ALICE, run="r1"), **site) == ()


@pytest.mark.parametrize(
    ("headers", "field", "words"),
    [
        ({URL: "https://127.0.0.1/", KEY: SECRET}, URL, "127.0.0.1"),
        ({URL: "https://[::ffff:10.0.0.1]/", KEY: SECRET}, URL, "Weft-Callback"),
        ({URL: "https://169.254.169.254/", KEY: SECRET}, URL, "169.254.169.254"),
        ({URL: "https://localhost/", KEY: SECRET}, URL, "this machine itself"),
        ({URL: "http://hook.example/", KEY: SECRET}, URL, "plain http"),
        ({URL: "ftp://hook.example/", KEY: SECRET}, URL, "not an http or https URL"),
        ({URL: "https://me:pw@hook.example/", KEY: SECRET}, URL, "user or password"),
        ({URL: "", KEY: SECRET}, URL, "Weft-Callback"),
        ({URL: "https://hook.example/" + "x" * 2048, KEY: SECRET}, URL, "too long"),
        ({URL: "https://hook.example/ü", KEY: SECRET}, URL, "not ASCII"),
        ({URL: "https://hook.example/"}, KEY, "signed"),
        ({URL: "https://hook.example/", KEY: "secret"}, KEY, "base64"),
        ({URL: "https://hook.example/", KEY: "whsec_c2hvcnQ="}, KEY, "form"),
        ({KEY: SECRET}, URL, "without"),
    ],
)
def test_what_can_never_work_is_refused_by_its_header(headers: dict[str, str], field: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        asked(headers)
    assert (caught.value.field or "").lower() == field
    assert caught.value.remedy
    assert SECRET not in str(caught.value)


def test_an_engine_gets_no_way_out_by_a_callback() -> None:
    with pytest.raises(InvalidRequest, match="tasks of a run"):
        asked({URL: "https://hook.example/", KEY: SECRET}, replace(ALICE, run="r1"))


def test_a_site_may_call_no_urls_of_clients() -> None:
    with pytest.raises(InvalidRequest, match="no URL of a client"):
        asked({URL: "https://hook.example/", KEY: SECRET}, by_clients=False)


def test_a_secret_is_not_shown() -> None:
    assert SECRET not in repr(asked({URL: "https://hook.example/", KEY: SECRET}))


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of its reference libraries."""
    secret, message = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert signed(secret, message, 1_614_265_330, b'{"test": 2432232314}') == {
        "webhook-id": message,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


# -- sending -------------------------------------------------------------------------------------------------------


@dataclass
class Notes:
    """An outbox that notes what becomes of a delivery."""

    due: list[float] = field(default_factory=list)
    messages: list[str | None] = field(default_factory=list)

    def callbacks_are_due(self, *, now: float) -> bool:
        return False

    def claim_callbacks(self, limit: int, *, now: float, until: float) -> tuple[Delivery, ...]:
        return ()

    def callback_failed(self, delivery: Delivery, *, due_at: float) -> None:
        self.due.append(due_at)

    def callback_settled(self, delivery: Delivery, *, now: float, message: str | None = None) -> None:
        self.messages.append(message)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver().start()
    yield receiver
    receiver.stop()


def a_delivery(url: str, **changes: object) -> Delivery:
    fields: dict[str, object] = {
        "id": "j-1-COMPLETE-client",
        "job_id": "j",
        "place": Place.CLIENT,
        "kind": Kind.TASK,
        "state": State.COMPLETE,
        "attempt": 1,
        "at": NOW,
        "url": url,
        "secret": SECRET,
    }
    return Delivery(**{**fields, **changes})  # type: ignore[arg-type]


def send(notes: Notes, delivery: Delivery, *, allow: str = "", later: float = 0.0, jitter: float = 0.0) -> None:
    client = GuardedClient(FetchSettings(allow_hosts=(allow,) if allow else (), connect_seconds=2.0))
    clock = Clock()
    clock.pass_(NOW + later - clock())
    Sender(outbox=notes, client=client, clock=clock, jitter=lambda: jitter).send(delivery)


def test_a_taken_callback_is_settled_and_says_where_the_job_stands(receiver: Receiver) -> None:
    notes = Notes()
    send(notes, a_delivery(receiver.url("/hook?a=b")), allow=receiver.host)
    (taken,) = receiver.taken
    assert (notes.messages, notes.due, taken.path) == ([None], [], "/hook?a=b")
    assert taken.headers["content-type"] == "application/json"
    assert taken.document == {
        "id": "j",
        "kind": "task",
        "state": "COMPLETE",
        "attempt": 1,
        "time": "2026-01-01T00:00:00.000Z",
    }
    proof = signed(SECRET, "j-1-COMPLETE-client", int(NOW), taken.body)
    assert {name: taken.headers[name] for name in proof} == proof


@pytest.mark.parametrize("status", [500, 404, 302, 307])
def test_what_is_not_taken_is_tried_again_and_no_redirect_is_followed(receiver: Receiver, status: int) -> None:
    receiver.answers.append(status)
    notes = Notes()
    send(notes, a_delivery(receiver.url()), allow=receiver.host)
    assert (notes.due, notes.messages, len(receiver.taken)) == ([NOW + FIRST_PAUSE], [], 1)


def test_pauses_double_up_to_the_longest_and_do_not_come_in_herds() -> None:
    notes = Notes()
    for tries, jitter in ((1, 0.0), (2, 0.0), (3, 1.0), (40, 0.0)):
        send(notes, a_delivery("http://127.0.0.1:9/", tries=tries), allow="127.0.0.1:9", jitter=jitter)
    assert notes.due == [NOW + 5, NOW + 10, NOW + 20 * 0.8, NOW + LONGEST_PAUSE]


def test_after_a_day_it_is_given_up_in_words() -> None:
    notes = Notes()
    send(notes, a_delivery("http://127.0.0.1:9/x?token=1", tries=30), allow="127.0.0.1:9", later=LASTS)
    (message,) = notes.messages
    assert message is not None
    assert message.startswith("callback to http://127.0.0.1:9/x for COMPLETE given up after 30 tries: no connection")
    assert "token" not in message


def test_a_receiver_that_is_gone_for_good_is_not_asked_again(receiver: Receiver) -> None:
    receiver.answers.append(410)
    notes = Notes()
    send(notes, a_delivery(receiver.url()), allow=receiver.host)
    assert notes.messages == [
        f"callback to {receiver.url()} for COMPLETE given up after 1 try: the answer was 410",
    ]


def test_a_name_that_leads_inside_is_never_called(receiver: Receiver) -> None:
    notes = Notes()
    inside = GuardedClient(FetchSettings(), resolver=lambda host, port: ["127.0.0.1"])
    url = f"https://hook.example:{receiver.host.rpartition(':')[2]}/"
    Sender(outbox=notes, client=inside, clock=Clock()).send(a_delivery(url))
    (message,) = notes.messages
    assert message is not None
    assert "given up after 1 try" in message
    assert receiver.taken == []


class Slow:
    """A client whose every POST waits, and an outbox that always has more."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.begun = threading.Semaphore(0)
        self.settled = threading.Semaphore(0)
        self.asked: list[int] = []

    def post(self, url: str, body: bytes, *, headers: Mapping[str, str]) -> int:
        self.begun.release()
        assert self.answer.wait(10)
        return 204

    def callbacks_are_due(self, *, now: float) -> bool:
        return True

    def claim_callbacks(self, limit: int, *, now: float, until: float) -> tuple[Delivery, ...]:
        self.asked.append(limit)
        return tuple(a_delivery("https://hook.example/") for _ in range(min(limit, 2)))

    def callback_failed(self, delivery: Delivery, *, due_at: float) -> None:
        raise AssertionError("nothing failed")

    def callback_settled(self, delivery: Delivery, *, now: float, message: str | None = None) -> None:
        self.settled.release()


def test_no_more_are_claimed_than_can_be_sent_at_once() -> None:
    slow = Slow()
    sender = Sender(outbox=slow, client=slow, clock=Clock(), at_once=3)
    for _ in range(3):
        sender.turn()
    assert slow.asked == [3, 1]  # two under way, then one more; then there was no room to ask for any
    for _ in range(3):
        assert slow.begun.acquire(timeout=10)
    slow.answer.set()
    for _ in range(3):
        assert slow.settled.acquire(timeout=10)
    sender.start()
    sender.stop()
    assert max(slow.asked) == 3


def test_a_stop_lets_what_is_under_way_finish() -> None:
    slow = Slow()
    sender = Sender(outbox=slow, client=slow, clock=Clock(), at_once=2)
    sender.start()
    assert slow.begun.acquire(timeout=10)
    slow.answer.set()
    sender.stop()
    assert slow.settled.acquire(blocking=False)
