"""The peer's hot key, and the only place that signs with it; the owner is an address and nothing more.

Never signs a cumulative lower than one it signed before, not even after a crash or in another process: each is in the
signer's book before a voucher is handed out. Opening runs scrypt (1.4 s and 256 MB; 0.02 s with CHEAP_SCRYPT_N, for
development networks), and signing a voucher syncs a file: callers on an event loop must use a thread.
"""

from __future__ import annotations

from pathlib import Path

from core.payments.keystore import STRONG_SCRYPT_N, load_hot_key, load_owner
from core.payments.signer_book import LowerCumulative, SignerBook
from core.payments.voucher import (
    EscrowDomain,
    JobClaim,
    Party,
    RelayFee,
    Voucher,
    address_of,
    job_claim_digest,
    relay_fee_digest,
    sign_digest,
    sign_voucher,
)

SIGNED = "signer.db"
OLD_SIGNED = "signed.jsonl"


class Wallet:
    """One party that can sign. Safe to call from several threads."""

    def __init__(self, key: bytes, owner: str, *, book: SignerBook) -> None:
        self.party = Party(owner, address_of(key))
        self._key = key
        self._book = book

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        passphrase: str | None = None,
        owner: str | None = None,
        scrypt_n: int = STRONG_SCRYPT_N,
    ) -> Wallet:
        """The wallet of this folder, made on first use. Blocks. Raises WalletLocked, SignerBookUnusable, or ValueError
        on a bad owner.

        scrypt_n counts only when the key is made; an existing key file names its own.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = load_hot_key(folder, passphrase=passphrase, scrypt_n=scrypt_n)
        book = SignerBook(folder / SIGNED, journal=folder / OLD_SIGNED)
        return cls(key, load_owner(folder, owner), book=book)

    @property
    def hot_key(self) -> bytes:
        """The 32-byte key, for signing transactions in core/payments/chain.py and for nothing else."""
        return self._key

    def cumulative(self, domain: EscrowDomain, worker: str) -> int:
        """The highest amount ever signed for this worker at this escrow: where the next job starts from."""
        return self._book.cumulative(domain, worker)

    def sign_voucher(self, domain: EscrowDomain, *, worker: str, cumulative: int) -> Voucher:
        """A durable voucher. Blocks for one disk sync. Raises LowerCumulative, or ValueError if out of bounds."""
        voucher = sign_voucher(self._key, domain, payer=self.party, worker=worker, cumulative=cumulative)
        self._book.raise_to(domain, worker, cumulative=cumulative)
        return voucher

    def sign_at_least(self, domain: EscrowDomain, *, worker: str, cumulative: int) -> Voucher:
        """The same, or for as much as another process of this home has signed for this worker meanwhile: what pays for
        its job and for ours."""
        while True:
            try:
                return self.sign_voucher(domain, worker=worker, cumulative=cumulative)
            except LowerCumulative:
                cumulative = self.cumulative(domain, worker)

    def sign_relay_fee(self, domain: EscrowDomain, fee: RelayFee) -> str:
        """0x and r || vs: lets fee.relayer keep fee.fee of our next payout."""
        return sign_digest(self._key, relay_fee_digest(domain, fee))

    def sign_job_claim(self, domain: EscrowDomain, claim: JobClaim) -> str:
        """0x and r || vs: says that the job is ours to pay. Moves no money, and touches no disk."""
        return sign_digest(self._key, job_claim_digest(domain, claim))

    def close(self) -> None:
        """Let go of the book."""
        self._book.close()
