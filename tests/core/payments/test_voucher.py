"""Laws of vouchers; the vectors were made by an independent EIP-712 implementation (eth-account)."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.payments.voucher import (
    MAX_AMOUNT,
    BadSignature,
    EscrowDomain,
    Party,
    RelayFee,
    Voucher,
    address_of,
    domain_separator,
    recover_digest,
    recover_signer,
    relay_fee_digest,
    sign_digest,
    sign_voucher,
    voucher_digest,
)

KEY = b"\x07" * 32
DOMAIN = EscrowDomain(31337, "0x" + "22" * 20)
PAYER = Party("0x" + "11" * 20, address_of(KEY))
WORKER = Party("0x" + "33" * 20, "0x" + "44" * 20).id


class Vector(msgspec.Struct, frozen=True):
    key: str
    domain: EscrowDomain
    domain_separator: str
    voucher: Voucher
    payer_id: str
    voucher_digest: str
    relay_fee: RelayFee
    relay_fee_digest: str
    relay_fee_signature: str


VECTORS = msgspec.json.decode(
    (Path(__file__).parents[2] / "vectors" / "voucher.json").read_bytes(), type=list[Vector]
)


@pytest.mark.parametrize("vector", VECTORS)
def test_vouchers_equal_the_golden_vectors(vector: Vector) -> None:
    payer, worker, cumulative = vector.voucher.payer, vector.voucher.worker, vector.voucher.cumulative
    key = bytes.fromhex(vector.key[2:])
    assert payer.id == vector.payer_id
    assert "0x" + domain_separator(vector.domain).hex() == vector.domain_separator
    digest = voucher_digest(vector.domain, payer=payer.id, worker=worker, cumulative=cumulative)
    assert "0x" + digest.hex() == vector.voucher_digest
    signed = sign_voucher(key, vector.domain, payer=payer, worker=worker, cumulative=cumulative)
    assert signed == vector.voucher
    assert recover_signer(vector.domain, vector.voucher) == payer.hot


@pytest.mark.parametrize("vector", VECTORS)
def test_relay_fees_equal_the_golden_vectors(vector: Vector) -> None:
    digest = relay_fee_digest(vector.domain, vector.relay_fee)
    assert "0x" + digest.hex() == vector.relay_fee_digest
    assert sign_digest(bytes.fromhex(vector.key[2:]), digest) == vector.relay_fee_signature


@settings(max_examples=30, deadline=None)
@given(cumulative=st.integers(0, MAX_AMOUNT), chain_id=st.integers(1, (1 << 64) - 1))
def test_the_signer_is_recovered_and_nobody_else(cumulative: int, chain_id: int) -> None:
    domain = EscrowDomain(chain_id, DOMAIN.contract)
    voucher = sign_voucher(KEY, domain, payer=PAYER, worker=WORKER, cumulative=cumulative)
    assert recover_signer(domain, voucher) == PAYER.hot
    elsewhere = EscrowDomain(chain_id + 1, DOMAIN.contract)
    assert recover_signer(elsewhere, voucher) != PAYER.hot


@pytest.mark.parametrize("cumulative", [-1, MAX_AMOUNT + 1])
def test_amounts_outside_uint96_are_never_signed(cumulative: int) -> None:
    with pytest.raises(ValueError):
        sign_voucher(KEY, DOMAIN, payer=PAYER, worker=WORKER, cumulative=cumulative)


def test_a_key_signs_only_for_its_own_party() -> None:
    with pytest.raises(ValueError):
        sign_voucher(b"\x08" * 32, DOMAIN, payer=PAYER, worker=WORKER, cumulative=1)


def test_a_high_s_is_refused_as_the_contract_refuses_it() -> None:
    digest = b"\x05" * 32
    high = sign_digest(KEY, digest)[:66] + "7" + "f" * 63
    with pytest.raises(BadSignature):
        recover_digest(digest, high)


@pytest.mark.parametrize("signature", ["", "0x", "0x" + "00" * 64, "0x" + "ff" * 64, "0x" + "zz" * 64, "ab" * 64])
def test_nonsense_is_a_bad_signature(signature: str) -> None:
    with pytest.raises(BadSignature):
        recover_digest(b"\x05" * 32, signature)


def test_a_voucher_survives_the_wire_and_nonsense_does_not() -> None:
    voucher = sign_voucher(KEY, DOMAIN, payer=PAYER, worker=WORKER, cumulative=5)
    text = msgspec.json.encode(voucher)
    assert msgspec.json.decode(text, type=Voucher) == voucher
    for bad in (text.replace(b":5,", b":-5,"), text.replace(b"0x11", b"0y11"), text.replace(WORKER.encode(), b"0x1")):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(bad, type=Voucher)
