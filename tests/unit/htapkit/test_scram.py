"""SCRAM-SHA-256 against RFC 7677's example, and everything that must be refused."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from htapkit import scram
from htapkit.scram import (
    MECHANISM,
    MECHANISM_PLUS,
    ScramClient,
    ScramRefused,
    ScramServer,
    Verifier,
)

# RFC 7677, section 3
PASSWORD = "pencil"
SALT = "W22ZaJ0SNY7soEsUEjb6gQ=="
CLIENT_NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = f"n,,n=user,r={CLIENT_NONCE}"
SERVER_FIRST = f"r={CLIENT_NONCE}{SERVER_NONCE},s={SALT},i=4096"
WITHOUT_PROOF = f"c=biws,r={CLIENT_NONCE}{SERVER_NONCE}"
PROOF = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
CLIENT_FINAL = f"{WITHOUT_PROOF},p={PROOF}"
SERVER_FINAL = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

CERTIFICATE = hashlib.sha256(b"a certificate").digest()


def keys() -> tuple[bytes, bytes]:
    return scram.keys_from_password(PASSWORD, base64.b64decode(SALT), 4096)


def verifier(*, real: bool = True) -> Verifier:
    client_key, server_key = keys()
    stored = hashlib.sha256(client_key).digest()
    return Verifier(4096, base64.b64decode(SALT), stored, server_key, real=real)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> ScramServer:
    """One that answers with the nonce of the RFC."""
    monkeypatch.setattr("secrets.token_urlsafe", lambda _size: SERVER_NONCE)
    return ScramServer(verifier(), None)


def test_example_of_the_rfc(server: ScramServer) -> None:
    """The server's half, byte by byte; it learns the client's key."""
    assert server.mechanisms == (MECHANISM,)
    assert server.first(MECHANISM, CLIENT_FIRST) == SERVER_FIRST
    assert server.final(CLIENT_FINAL) == SERVER_FINAL
    assert server.client_key == keys()[0]


@pytest.mark.parametrize(
    "final",
    [
        f"{WITHOUT_PROOF},p={'A' + PROOF[1:]}",  # another proof
        f"c=biws,r={CLIENT_NONCE}x{SERVER_NONCE},p={PROOF}",  # another nonce
        f"c=eSws,r={CLIENT_NONCE}{SERVER_NONCE},p={PROOF}",  # another channel
        f"{WITHOUT_PROOF},p={PROOF[:8]}",  # too short
        f"{WITHOUT_PROOF},p=%%%",
        f"{WITHOUT_PROOF},p=",
        WITHOUT_PROOF,
        "",
    ],
)
def test_wrong_finals_are_refused(server: ScramServer, final: str) -> None:
    server.first(MECHANISM, CLIENT_FIRST)
    with pytest.raises(ScramRefused):
        server.final(final)
    assert server.client_key == b""


@pytest.mark.parametrize(
    ("mechanism", "first"),
    [
        (MECHANISM, "n,a=other,n=user,r=abc"),  # to act as somebody else
        (MECHANISM, "p=tls-server-end-point,,n=user,r=abc"),
        (MECHANISM, "x,,n=user,r=abc"),
        (MECHANISM, "n,,n=user"),
        (MECHANISM, "n,,n=user,r="),
        (MECHANISM, "n,"),
        (MECHANISM, ""),
        (MECHANISM_PLUS, "p=tls-server-end-point,,n=user,r=abc"),  # was not offered
        ("SCRAM-SHA-1", CLIENT_FIRST),
    ],
)
def test_wrong_firsts_are_refused(server: ScramServer, mechanism: str, first: str) -> None:
    with pytest.raises(ScramRefused):
        server.first(mechanism, first)


def test_a_stripped_offer_of_channel_binding_is_noticed() -> None:
    """`y`: the client could bind, and believes that we cannot."""
    with pytest.raises(ScramRefused, match="channel binding"):
        ScramServer(verifier(), CERTIFICATE).first(MECHANISM, "y,,n=,r=abc")
    assert ScramServer(verifier(), None).first(MECHANISM, "y,,n=,r=abc").startswith("r=abc")


def test_mock_verifier_is_stable_and_never_satisfied() -> None:
    one = scram.mock_verifier("nobody", b"k" * 32)
    assert one == scram.mock_verifier("nobody", b"k" * 32)
    assert one.salt != scram.mock_verifier("someone", b"k" * 32).salt
    server = ScramServer(verifier(real=False), None)
    client = ScramClient(*keys(), None)
    final = client.final(server.first(MECHANISM, client.first()))
    with pytest.raises(ScramRefused, match="password authentication failed"):
        server.final(final)
    assert server.client_key == b""


@pytest.mark.parametrize("certificate", [None, CERTIFICATE])
def test_both_halves_together(certificate: bytes | None) -> None:
    server = ScramServer(verifier(), certificate)
    client = ScramClient(*keys(), certificate)
    assert client.mechanism == server.mechanisms[0]
    final = client.final(server.first(client.mechanism, client.first()))
    client.verify(server.final(final))
    assert server.client_key == keys()[0]


def test_a_relay_in_between_is_noticed() -> None:
    """The client is bound to another certificate than ours."""
    server = ScramServer(verifier(), CERTIFICATE)
    client = ScramClient(*keys(), hashlib.sha256(b"another").digest())
    final = client.final(server.first(client.mechanism, client.first()))
    with pytest.raises(ScramRefused):
        server.final(final)


def test_wrong_key_is_refused() -> None:
    server = ScramServer(verifier(), None)
    client = ScramClient(keys()[1], keys()[1], None)
    final = client.final(server.first(MECHANISM, client.first()))
    with pytest.raises(ScramRefused):
        server.final(final)


def reference_proof(first_bare: str, server_first: str, without_proof: str) -> bytes:
    """RFC 5802, section 3, from the password, with the standard library alone."""
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(SALT), 4096)
    key = hmac.new(salted, b"Client Key", hashlib.sha256).digest()
    message = f"{first_bare},{server_first},{without_proof}".encode()
    signature = hmac.new(hashlib.sha256(key).digest(), message, hashlib.sha256).digest()
    return base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))


def test_client_proof_is_the_one_of_the_rfc() -> None:
    """The reference gives RFC 7677's proof, and the client what the reference gives."""
    bare = CLIENT_FIRST.removeprefix("n,,")
    assert reference_proof(bare, SERVER_FIRST, WITHOUT_PROOF) == PROOF.encode()
    client = ScramClient(*keys(), None)
    assert client.first().startswith("n,,n=,r=")
    nonce = client.first().removeprefix("n,,n=,r=")
    server_first = f"r={nonce}xyz,s={SALT},i=4096"
    without, _, proof = client.final(server_first).rpartition(",p=")
    assert without == f"c=biws,r={nonce}xyz"
    expected = reference_proof(client.first().removeprefix("n,,"), server_first, without)
    assert proof.encode() == expected


@pytest.mark.parametrize("answer", ["r=abc,s=AAAA,i=1", "e=other-error", ""])
def test_client_wants_its_own_nonce_back(answer: str) -> None:
    with pytest.raises(ScramRefused, match="nonce"):
        ScramClient(*keys(), None).final(answer)


@pytest.mark.parametrize("final", [SERVER_FINAL, "v=", "e=other-error", ""])
def test_client_refuses_an_impostor(final: str) -> None:
    client = ScramClient(*keys(), None)
    nonce = client.first().removeprefix("n,,n=,r=")
    client.final(f"r={nonce}xyz,s={SALT},i=4096")
    with pytest.raises(ScramRefused, match="could not prove"):
        client.verify(final)


def test_parse_verifier() -> None:
    """PostgreSQL's own form, and None for everything else."""
    stored, served = (base64.b64encode(part).decode() for part in verifier_parts())
    text = f"SCRAM-SHA-256$4096:{SALT}${stored}:{served}"
    assert scram.parse_verifier(text) == verifier()
    for other in (None, "", "md5" + "0" * 32, "SCRAM-SHA-256$4096:" + SALT, text + "\n"):
        assert scram.parse_verifier(other) is None


def verifier_parts() -> tuple[bytes, bytes]:
    client_key, server_key = keys()
    return hashlib.sha256(client_key).digest(), server_key
