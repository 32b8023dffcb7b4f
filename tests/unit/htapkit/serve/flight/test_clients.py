"""Logins: passwords, tokens, their limits, and what is remembered of a client."""

from __future__ import annotations

import base64
import weakref
from dataclasses import replace

import pytest

from htapkit.errors import SourceRefused, SourceUnavailable
from htapkit.serve.flight.clients import Client, Logins
from htapkit.serve.pgwire.auth import NotAllowed, NotAuthenticated
from htapkit.serve.pgwire.messages import error_body
from htapkit.spi import OwnRole, Password

SECRET = "secret"


class Place:
    """Logins against a source that knows `user` with password `secret`."""

    def __init__(self, *, trust: bool = False, private: bool = True, count_max: int = 3) -> None:
        self.now = 0.0
        self.asked = 0
        self.problem: Exception | None = None
        self.logins = Logins(
            self.check,
            trust=trust,
            private=private,
            count_max=count_max,
            idle_seconds=10.0,
            seconds=25.0,
            monotonic=lambda: self.now,
        )

    def check(self, client: Client, database: str) -> None:
        self.asked += 1
        if self.problem is not None:
            raise self.problem
        if client.credential != Password(SECRET) or database != "shop":
            raise SourceRefused("no", error_body("28P01", "password authentication failed"))

    def basic(self, user: str, password: str = SECRET) -> tuple[Client, str]:
        word = base64.b64encode(f"{user}:{password}".encode()).decode()
        return self.logins.enter({"authorization": [f"Basic {word.rstrip('=')}"]}, "shop")

    def bearer(self, token: str) -> Client:
        return self.logins.enter({"authorization": [f"Bearer {token}"]}, "shop")[0]


def test_a_password_gives_a_token() -> None:
    place = Place()
    client, token = place.basic("ann")
    assert client.user == "ann"
    assert place.bearer(token) is client
    assert place.basic("ann") == (client, token)
    assert place.asked == 1
    assert place.basic("bob")[0] is not client


def test_a_wrong_password_is_refused_even_when_the_user_is_logged_in() -> None:
    place = Place()
    place.basic("ann")
    with pytest.raises(NotAuthenticated, match='failed for user "ann"'):
        place.basic("ann", "wrong")


def test_tokens_end() -> None:
    place = Place()
    _, token = place.basic("ann")
    for _ in range(3):
        place.now += 8.0
        place.bearer(token)
    place.now += 1.5  # 25.5 s after the login
    with pytest.raises(NotAuthenticated, match="expired"):
        place.bearer(token)
    _, token = place.basic("ann")
    assert place.asked == 2
    place.now += 10.0
    with pytest.raises(NotAuthenticated):
        place.bearer(token)


def test_the_one_that_was_idle_the_longest_ends_at_the_limit() -> None:
    place = Place()
    tokens = {}
    for user in "abc":
        tokens[user] = place.basic(user)[1]
        place.now += 1.0
    place.bearer(tokens["a"])
    place.basic("d")
    place.bearer(tokens["a"])
    with pytest.raises(NotAuthenticated):
        place.bearer(tokens["b"])


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer x",
        "Basic",
        "Basic !",
        "Basic " + base64.b64encode(b"nocolon").decode(),
        "Basic " + base64.b64encode(b":p").decode(),
        "Digest x",
        "Basic " + "QQ" * 40_000,
    ],
)
def test_what_is_no_login(value: str) -> None:
    with pytest.raises(NotAuthenticated):
        Place().logins.enter({"authorization": [value]} if value else {}, "shop")


def test_passwords_are_not_taken_where_others_can_read_them() -> None:
    with pytest.raises(NotAllowed, match="TLS"):
        Place(private=False).basic("ann")


def test_a_source_that_is_away_is_no_wrong_password() -> None:
    place = Place()
    place.problem = SourceUnavailable("away")
    with pytest.raises(SourceUnavailable):
        place.basic("ann")
    place.problem = SourceRefused("no", error_body("3D000", 'database "shop" does not exist'))
    with pytest.raises(SourceRefused):
        place.basic("ann")


def test_trust_is_one_client() -> None:
    place = Place(trust=True)
    first, second = place.basic("ann", "any"), place.logins.enter({}, "shop")
    assert first[0] is second[0]
    assert first[0].credential == OwnRole()
    assert first[1]
    assert not second[1]


def test_a_secret_is_in_no_representation() -> None:
    client, _ = Place().basic("ann")
    assert SECRET not in repr(client) + repr(client.credential)


def test_what_is_remembered_is_of_one_database() -> None:
    client = Client("ann", OwnRole())
    client.remember("shop", lambda memory: replace(memory, relays=memory.relays + 1))
    assert client.memory("shop").relayed
    assert not client.memory("other").relayed


def test_an_expired_login_is_forgotten_with_its_password() -> None:
    place = Place()
    client, _ = place.basic("ann")
    gone = weakref.ref(client)
    del client
    place.logins.sweep()
    assert gone() is not None
    place.now += 10.0
    place.logins.sweep()
    assert gone() is None
