"""A payer's word that a job is its own: EIP-712 as others compute it, for one job, one provider and a short time."""

from __future__ import annotations

from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from core.payments.signer_book import SignerBook
from core.payments.voucher import (
    CLAIM_LIFE_S,
    MAX_CLAIM_LIFE_S,
    UNPROVEN,
    EscrowDomain,
    JobClaim,
    Party,
    address_of,
    job_claim_digest,
    job_claim_fault,
    sign_digest,
)
from core.payments.wallet import Wallet

KEY = bytes(range(1, 33))
PAYER = Party("0x" + "11" * 20, address_of(KEY))
DOMAIN = EscrowDomain(31_337, "0x" + "44" * 20)
NOW = 1_000_000
CLAIM = JobClaim(PAYER.id, "job-1", "12D3KooWProvider", NOW + CLAIM_LIFE_S)
TYPES = {
    "JobClaim": [
        {"name": "payer", "type": "bytes32"},
        {"name": "job", "type": "string"},
        {"name": "provider", "type": "string"},
        {"name": "expires", "type": "uint40"},
    ]
}


def signed(claim: JobClaim = CLAIM, *, key: bytes = KEY) -> str:
    return sign_digest(key, job_claim_digest(DOMAIN, claim))


def fault(claim: JobClaim = CLAIM, *, signature: str, now: float = NOW) -> str | None:
    return job_claim_fault(DOMAIN, claim, hot=PAYER.hot, signature=signature, now=now)


@given(job=st.from_regex(r"[A-Za-z0-9_-]{1,64}\Z"), expires=st.integers(0, (1 << 40) - 1))
@settings(max_examples=20, deadline=None)
def test_the_signature_is_the_one_that_any_wallet_makes(job: str, expires: int) -> None:
    claim = JobClaim(PAYER.id, job, "12D3KooWProvider", expires)
    place = {"name": "ComputeEscrow", "version": "1", "chainId": 31_337, "verifyingContract": DOMAIN.contract}
    message = {"payer": claim.payer, "job": job, "provider": claim.provider, "expires": expires}
    theirs = Account.sign_message(encode_typed_data(place, TYPES, message), KEY)
    vs = theirs.s | ((theirs.v - 27) << 255)
    assert signed(claim) == f"0x{theirs.r:064x}{vs:064x}"


def test_a_good_claim_has_no_fault_until_it_ends() -> None:
    assert fault(signature=signed()) is None
    assert fault(signature=signed(), now=NOW + CLAIM_LIFE_S)
    assert fault(signature=signed(), now=NOW + CLAIM_LIFE_S - MAX_CLAIM_LIFE_S) is None
    assert fault(signature=signed(), now=NOW + CLAIM_LIFE_S - MAX_CLAIM_LIFE_S - 1)


@pytest.mark.parametrize(
    "claim",
    [
        JobClaim(CLAIM.payer, "job-2", CLAIM.provider, CLAIM.expires),
        JobClaim(CLAIM.payer, CLAIM.job, "12D3KooWAnother", CLAIM.expires),
        JobClaim("0x" + "99" * 32, CLAIM.job, CLAIM.provider, CLAIM.expires),
        JobClaim(CLAIM.payer, CLAIM.job, CLAIM.provider, CLAIM.expires + 1),
    ],
    ids=["job", "provider", "payer", "end"],
)
def test_a_signature_is_good_for_nothing_but_its_own_claim(claim: JobClaim) -> None:
    assert fault(claim, signature=signed()) == UNPROVEN


@pytest.mark.parametrize("signature", [signed(key=b"\x09" * 32), "0x" + "ff" * 64, "0x" + "00" * 64, "", "0x12"])
def test_whatever_is_no_signature_of_the_payer_proves_nothing(signature: str) -> None:
    assert fault(signature=signature) == UNPROVEN


def test_a_wallet_signs_it_and_signs_no_money_with_it(tmp_path: Path) -> None:
    wallet = Wallet(KEY, PAYER.owner, book=SignerBook(tmp_path / "signer.db"))
    before = (tmp_path / "signer.db").read_bytes()
    assert wallet.sign_job_claim(DOMAIN, CLAIM) == signed()
    assert (tmp_path / "signer.db").read_bytes() == before
