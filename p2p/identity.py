"""Who this peer is in the swarm: an Ed25519 key in a 0600 file, its peer id, and signatures that others can check.

Never logs or returns the key but to the swarm's host. Not the wallet's key: it signs offers and quotes, never money.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from core.job import PeerId
from core.private_file import write_private

SEED_BYTES = 32
SIGNATURE_BYTES = 64
PEER_ID_CHARS = 52

# libp2p peer-ids specification: an identity multihash (code 0, 36 bytes) of the protobuf {Ed25519, 32 bytes of key}.
_PREFIX = bytes.fromhex("002408011220")
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class IdentityUnusable(Exception):
    """The key file cannot be used; the message is one sentence for the owner."""


class Identity:
    """One peer's key."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.peer_id = peer_id_of(bytes(self._key.verify_key))

    @classmethod
    def open(cls, path: Path) -> Identity:
        """The identity in this file, made on first use (mode 0600, atomically). Raises IdentityUnusable."""
        try:
            if not path.exists():
                write_private(path, secrets.token_bytes(SEED_BYTES).hex().encode())
            text = path.read_text("ascii")
            return cls(bytes.fromhex(text))
        except (OSError, ValueError) as error:
            remedy = "Restore the file, or remove it to get a new identity."
            raise IdentityUnusable(f"The swarm identity in {path.name} cannot be used. {remedy}") from error

    @property
    def seed(self) -> bytes:
        """The 32-byte Ed25519 seed, for the swarm's host and nothing else."""
        return bytes(self._key)

    def sign(self, message: bytes) -> str:
        """The signature of these bytes, in hex."""
        return self._key.sign(message).signature.hex()


def is_signed_by(peer_id: PeerId, message: bytes, *, signature: str) -> bool:
    """Whether this peer signed these bytes. False for anything malformed."""
    try:
        raw = bytes.fromhex(signature)
        if len(raw) != SIGNATURE_BYTES:
            return False
        VerifyKey(public_key_of(peer_id)).verify(message, raw)
    except (ValueError, BadSignatureError):
        return False
    return True


def peer_id_of(public_key: bytes) -> PeerId:
    """The peer id of a 32-byte Ed25519 public key."""
    number = int.from_bytes(_PREFIX + public_key)
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return PeerId("1" + text)  # the prefix's leading zero byte


def public_key_of(peer_id: PeerId) -> bytes:
    """The 32-byte Ed25519 public key in a peer id. Raises ValueError for any other id."""
    if len(peer_id) != PEER_ID_CHARS or not peer_id.startswith("1"):
        raise ValueError("not the peer id of an Ed25519 key")
    number = 0
    for character in peer_id[1:]:
        number = number * 58 + _ALPHABET.index(character)
    raw = number.to_bytes(len(_PREFIX) + SEED_BYTES)
    if not raw.startswith(_PREFIX):
        raise ValueError("not the peer id of an Ed25519 key")
    return raw[len(_PREFIX) :]
