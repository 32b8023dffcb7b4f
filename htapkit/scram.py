"""SCRAM-SHA-256 (RFC 5802, RFC 7677) without I/O: the pieces that both ends of our relay need.

The server end proves a client against the source's own verifier and thereby learns the ClientKey;
the client end logs in to the source with the two keys alone, without ever knowing the password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from htapkit.errors import ProtocolError

MECHANISM = "SCRAM-SHA-256"
MECHANISM_PLUS = "SCRAM-SHA-256-PLUS"
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)")


class ScramRefused(ProtocolError):
    """The peer failed to prove itself. Never says why: the caller words it."""

    sqlstate = "28P01"


def digest_key(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-256."""
    return hmac.digest(key, message, "sha256")


def xor(left: bytes, right: bytes) -> bytes:
    """Bytewise exclusive or of equal lengths."""
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _attributes(message: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in message.split(",") if "=" in part)


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps instead of a password (RFC 5803). `real` is false for a made-up one."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes
    real: bool = True


def parse_verifier(text: str | None) -> Verifier | None:
    """PostgreSQL's `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`; None for anything else."""
    found = _VERIFIER.fullmatch(text or "")
    if not found:
        return None
    salt, stored, server = (base64.b64decode(found[i]) for i in (2, 3, 4))
    return Verifier(int(found[1]), salt, stored, server)


def mock_verifier(user: str, secret: bytes) -> Verifier:
    """A verifier that nobody satisfies, the same each time: unknown roles look like known ones."""
    return Verifier(4096, digest_key(secret, user.encode())[:16], secret, secret, real=False)


class ScramServer:
    """The server's half of one exchange.

    Feed two client messages, then read the learnt `client_key`.
    """

    def __init__(self, verifier: Verifier, certificate_hash: bytes | None) -> None:
        """`certificate_hash` is of our own TLS certificate (tls-server-end-point).

        None without TLS.
        """
        self._verifier = verifier
        self._binding = certificate_hash
        self._nonce = ""
        self._first_bare = ""
        self._server_first = ""
        self._gs2 = ""
        self.client_key = b""

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What to offer."""
        return (MECHANISM_PLUS, MECHANISM) if self._binding else (MECHANISM,)

    def first(self, mechanism: str, message: str) -> str:
        """Take client-first, give server-first."""
        parts = message.split(",", 2)
        if mechanism not in self.mechanisms or len(parts) != 3:
            raise ScramRefused("malformed SASL exchange")
        flag, authorization, bare = parts
        plus = mechanism == MECHANISM_PLUS
        wrong_binding = plus != (flag == "p=tls-server-end-point")
        downgraded = flag == "y" and self._binding is not None
        if wrong_binding or downgraded or authorization or (not plus and flag not in {"n", "y"}):
            raise ScramRefused("channel binding does not fit")
        self._gs2 = f"{flag},{authorization},"
        self._first_bare = bare
        client_nonce = _attributes(bare).get("r", "")
        if not client_nonce:
            raise ScramRefused("malformed SASL exchange")
        self._nonce = client_nonce + secrets.token_urlsafe(18)
        salt = base64.b64encode(self._verifier.salt).decode()
        self._server_first = f"r={self._nonce},s={salt},i={self._verifier.iterations}"
        return self._server_first

    def final(self, message: str) -> str:
        """Take client-final, check the proof, give server-final. Raises ScramRefused."""
        without_proof, found, proof = message.rpartition(",p=")
        attributes = _attributes(without_proof)
        if not found:
            raise ScramRefused("malformed SASL exchange")
        bound = self._binding if self._gs2.startswith("p=") and self._binding else b""
        expected = base64.b64encode(self._gs2.encode() + bound).decode()
        auth_message = f"{self._first_bare},{self._server_first},{without_proof}".encode()
        try:
            raw_proof = base64.b64decode(proof, validate=True)
            client_key = xor(raw_proof, digest_key(self._verifier.stored_key, auth_message))
        except ValueError as error:
            raise ScramRefused("malformed SASL exchange") from error
        proven = hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key)
        same_nonce = attributes.get("r") == self._nonce
        if not (proven and same_nonce and attributes.get("c") == expected and self._verifier.real):
            raise ScramRefused("password authentication failed")
        self.client_key = client_key
        signature = digest_key(self._verifier.server_key, auth_message)
        return "v=" + base64.b64encode(signature).decode()


class ScramClient:
    """The client's half with keys instead of a password.

    Checks that the server knows its key, too.
    """

    def __init__(
        self, client_key: bytes, server_key: bytes, certificate_hash: bytes | None
    ) -> None:
        """`certificate_hash` is of the server's TLS certificate; None: no channel binding."""
        self._client_key = client_key
        self._server_key = server_key
        self._binding = certificate_hash
        self._first_bare = "n=,r=" + secrets.token_urlsafe(18)
        self._auth_message = b""

    def learn(self, client_key: bytes, server_key: bytes) -> None:
        """Set the keys before `final`, where they depend on the server's salt and iterations."""
        self._client_key = client_key
        self._server_key = server_key

    @property
    def mechanism(self) -> str:
        """What to choose."""
        return MECHANISM_PLUS if self._binding else MECHANISM

    @property
    def _gs2(self) -> str:
        return "p=tls-server-end-point,," if self._binding else "n,,"

    def first(self) -> str:
        """client-first."""
        return self._gs2 + self._first_bare

    def final(self, server_first: str) -> str:
        """Take server-first, give client-final."""
        nonce = _attributes(server_first).get("r", "")
        if not nonce.startswith(self._first_bare[5:]):
            raise ScramRefused("the source's SASL nonce is not an answer to ours")
        channel = base64.b64encode(self._gs2.encode() + (self._binding or b"")).decode()
        without_proof = f"c={channel},r={nonce}"
        self._auth_message = f"{self._first_bare},{server_first},{without_proof}".encode()
        stored_key = hashlib.sha256(self._client_key).digest()
        proof = xor(self._client_key, digest_key(stored_key, self._auth_message))
        return f"{without_proof},p={base64.b64encode(proof).decode()}"

    def verify(self, server_final: str) -> None:
        """Raise ScramRefused unless the server proved that it knows the key, too."""
        signature = base64.b64decode(_attributes(server_final).get("v", ""))
        if not hmac.compare_digest(signature, digest_key(self._server_key, self._auth_message)):
            raise ScramRefused("the source could not prove that it knows this user's key")


def keys_from_password(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """(ClientKey, ServerKey). ASCII passwords only are certain to be in their SASLprep form."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    return digest_key(salted, b"Client Key"), digest_key(salted, b"Server Key")


def certificate_hash(certificate: bytes) -> bytes:
    """The hash of a DER certificate for tls-server-end-point (RFC 5929).

    Its own, but SHA-256 at least.
    """
    found = next((name for oid, name in _SIGNATURES.items() if oid in certificate), "sha256")
    return hashlib.new(found, certificate).digest()


_SIGNATURES = {
    bytes.fromhex("06092a864886f70d01010c"): "sha384",  # sha384WithRSAEncryption
    bytes.fromhex("06092a864886f70d01010d"): "sha512",  # sha512WithRSAEncryption
    bytes.fromhex("06082a8648ce3d040303"): "sha384",  # ecdsa-with-SHA384
    bytes.fromhex("06082a8648ce3d040304"): "sha512",  # ecdsa-with-SHA512
}
