"""The key file, the peer id, and signatures."""

from __future__ import annotations

from pathlib import Path

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from core.job import PeerId
from p2p.identity import Identity, IdentityUnusable, is_signed_by, peer_id_of, public_key_of


def test_an_identity_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "peer.key"
    first = Identity.open(path)
    assert Identity.open(path).peer_id == first.peer_id
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["peer.key"]


@pytest.mark.parametrize("text", ["", "zz", "00" * 31])
def test_a_broken_key_file_is_named_and_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / "peer.key"
    path.write_text(text)
    with pytest.raises(IdentityUnusable, match="peer.key"):
        Identity.open(path)
    assert path.read_text() == text


@pytest.mark.parametrize("seed", [bytes(32), b"\x07" * 32, bytes(range(32))])
def test_peer_ids_are_libp2ps(seed: bytes) -> None:
    assert Identity(seed).peer_id == str(ID.from_pubkey(create_new_key_pair(seed).public_key))


def test_a_peer_id_names_its_key() -> None:
    key = bytes(range(32))
    assert public_key_of(peer_id_of(key)) == key


@pytest.mark.parametrize("peer_id", ["", "12D3", "x" * 52, "1" * 52, "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"])
def test_no_signature_holds_for_what_is_no_peer_id(peer_id: str) -> None:
    identity = Identity(b"\x07" * 32)
    assert not is_signed_by(PeerId(peer_id), b"text", signature=identity.sign(b"text"))


@pytest.mark.parametrize("signature", ["", "zz", "00" * 63, "00" * 64, "00" * 65])
def test_a_malformed_signature_is_no_signature(signature: str) -> None:
    assert not is_signed_by(Identity(b"\x07" * 32).peer_id, b"text", signature=signature)
