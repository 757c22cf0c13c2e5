"""Laws of the wallet and its key files."""

import os
from pathlib import Path

import msgspec
import pytest
from eth_keyfile.keyfile import create_keyfile_json

from core.payments.keystore import CHEAP_SCRYPT_N, WalletLocked
from core.payments.signer_book import LowerCumulative
from core.payments.voucher import EscrowDomain, RelayFee, recover_digest, recover_signer, relay_fee_digest
from core.payments.wallet import Wallet

DOMAIN = EscrowDomain(31337, "0x" + "22" * 20)
WORKER = "0x" + "33" * 32


def opened(folder: Path, **options: str) -> Wallet:
    return Wallet.open(folder, scrypt_n=CHEAP_SCRYPT_N, **options)


def test_a_wallet_is_the_same_when_opened_again(tmp_path: Path) -> None:
    first = opened(tmp_path / "wallet")
    assert opened(tmp_path / "wallet").party == first.party


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_every_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    opened(tmp_path / "wallet").sign_voucher(DOMAIN, worker=WORKER, cumulative=1)
    for path in (tmp_path / "wallet").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path.name
    assert (tmp_path / "wallet").stat().st_mode & 0o777 == 0o700


def test_no_file_but_the_owner_key_holds_a_plain_key(tmp_path: Path) -> None:
    wallet = opened(tmp_path)
    for path in tmp_path.iterdir():
        assert wallet.hot_key.hex().encode() not in path.read_bytes()
        assert wallet.hot_key not in path.read_bytes()
    (tmp_path / "owner.key").unlink()
    assert opened(tmp_path).party == wallet.party


def test_a_given_owner_is_kept_and_no_owner_key_is_made(tmp_path: Path) -> None:
    owner = "0x" + "Ab" * 20
    assert opened(tmp_path, owner=owner).party.owner == owner
    assert opened(tmp_path).party.owner == owner
    assert not (tmp_path / "owner.key").exists()
    with pytest.raises(ValueError, match="40 hex digits"):
        opened(tmp_path, owner="me")


def test_a_wrong_or_missing_passphrase_opens_nothing(tmp_path: Path) -> None:
    wallet = opened(tmp_path, passphrase="correct")
    assert not (tmp_path / "hot.passphrase").exists()
    with pytest.raises(WalletLocked):
        opened(tmp_path, passphrase="wrong")
    with pytest.raises(WalletLocked):
        opened(tmp_path)
    assert opened(tmp_path, passphrase="correct").party == wallet.party


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"version":3,"crypto":{}}'])
def test_a_damaged_key_file_is_a_locked_wallet(tmp_path: Path, content: bytes) -> None:
    opened(tmp_path)
    (tmp_path / "hot.json").write_bytes(content)
    with pytest.raises(WalletLocked):
        opened(tmp_path)


def test_a_keystore_of_another_program_opens(tmp_path: Path) -> None:
    sealed = create_keyfile_json(b"\x09" * 32, b"secret", iterations=1000)
    (tmp_path / "hot.json").write_bytes(msgspec.json.encode(sealed))
    assert opened(tmp_path, passphrase="secret").hot_key == b"\x09" * 32


def test_vouchers_are_signed_by_hot_and_never_fall_not_even_after_a_restart(tmp_path: Path) -> None:
    wallet = opened(tmp_path)
    voucher = wallet.sign_voucher(DOMAIN, worker=WORKER, cumulative=10)
    assert recover_signer(DOMAIN, voucher) == wallet.party.hot
    assert wallet.sign_voucher(DOMAIN, worker=WORKER, cumulative=10) == voucher
    again = opened(tmp_path)
    assert again.cumulative(DOMAIN, WORKER) == 10
    with pytest.raises(LowerCumulative):
        again.sign_voucher(EscrowDomain(31337, "0x" + "22" * 20), worker=WORKER, cumulative=9)
    assert again.sign_voucher(EscrowDomain(1, DOMAIN.contract), worker=WORKER, cumulative=9).cumulative == 9


def test_at_least_so_much_is_what_another_process_signed_meanwhile(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    other.sign_voucher(DOMAIN, worker=WORKER, cumulative=500)
    with pytest.raises(LowerCumulative):
        one.sign_voucher(DOMAIN, worker=WORKER, cumulative=11)
    assert one.sign_at_least(DOMAIN, worker=WORKER, cumulative=11).cumulative == 500
    assert one.sign_at_least(DOMAIN, worker=WORKER, cumulative=501).cumulative == 501


def test_a_relay_fee_is_signed_by_hot(tmp_path: Path) -> None:
    wallet = opened(tmp_path)
    fee = RelayFee(wallet.party.id, "0x" + "55" * 20, 3, 0, 1_900_000_000)
    assert recover_digest(relay_fee_digest(DOMAIN, fee), wallet.sign_relay_fee(DOMAIN, fee)) == wallet.party.hot
