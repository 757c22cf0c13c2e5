"""The peer's hot key, and the only place that signs with it; the owner is an address and nothing more.

Never signs a cumulative lower than one it signed before, not even after a crash: each is in a journal before a voucher
is handed out. Opening runs scrypt (1.4 s and 256 MB; 0.02 s with CHEAP_SCRYPT_N, for development networks), and signing
a voucher syncs a file: callers on an event loop must use a thread. One process at a time: the application's lock file
sees to that.
"""

from __future__ import annotations

import os
from io import BufferedWriter
from pathlib import Path
from threading import Lock

import msgspec

from core.payments.keystore import STRONG_SCRYPT_N, load_hot_key, load_owner
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
from core.private_file import write_private

SIGNED = "signed.jsonl"
MOST_LINES = 4096  # superseded lines that the journal may hold before it is written anew


class LowerCumulative(ValueError):
    """We were asked to sign less than we signed before: a bug of ours, or two processes on one wallet."""


class Signed(msgspec.Struct, frozen=True):
    """One line of the journal: the highest cumulative for one worker (a party id) at one escrow."""

    domain: EscrowDomain
    worker: str
    cumulative: int


class Wallet:
    """One party that can sign. Safe to call from several threads."""

    def __init__(self, key: bytes, owner: str, *, journal: Path) -> None:
        self.party = Party(owner, address_of(key))
        self._key = key
        self._lock = Lock()
        self._path = journal
        self._signed = _read_journal(journal)
        self._journal = _compact(journal, self._signed)
        self._lines = len(self._signed)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        passphrase: str | None = None,
        owner: str | None = None,
        scrypt_n: int = STRONG_SCRYPT_N,
    ) -> Wallet:
        """The wallet of this folder, made on first use. Blocks. Raises WalletLocked, or ValueError on a bad owner.

        scrypt_n counts only when the key is made; an existing key file names its own.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = load_hot_key(folder, passphrase=passphrase, scrypt_n=scrypt_n)
        return cls(key, load_owner(folder, owner), journal=folder / SIGNED)

    @property
    def hot_key(self) -> bytes:
        """The 32-byte key, for signing transactions in core/payments/chain.py and for nothing else."""
        return self._key

    def cumulative(self, domain: EscrowDomain, worker: str) -> int:
        """The highest amount ever signed for this worker at this escrow: where the next job starts from."""
        return self._signed.get(_lane(domain, worker), 0)

    def sign_voucher(self, domain: EscrowDomain, *, worker: str, cumulative: int) -> Voucher:
        """A durable voucher. Blocks for one disk sync. Raises LowerCumulative, or ValueError if out of bounds."""
        with self._lock:
            known = self.cumulative(domain, worker)
            if cumulative < known:
                raise LowerCumulative(f"asked to sign {cumulative} after {known}")
            voucher = sign_voucher(self._key, domain, payer=self.party, worker=worker, cumulative=cumulative)
            if cumulative > known:
                self._record(Signed(domain, worker, cumulative))
            return voucher

    def sign_relay_fee(self, domain: EscrowDomain, fee: RelayFee) -> str:
        """0x and r || vs: lets fee.relayer keep fee.fee of our next payout."""
        return sign_digest(self._key, relay_fee_digest(domain, fee))

    def sign_job_claim(self, domain: EscrowDomain, claim: JobClaim) -> str:
        """0x and r || vs: says that the job is ours to pay. Moves no money, and touches no disk."""
        return sign_digest(self._key, job_claim_digest(domain, claim))

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    def _record(self, signed: Signed) -> None:
        self._journal.write(msgspec.json.encode(signed) + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._signed[_lane(signed.domain, signed.worker)] = signed.cumulative
        self._lines += 1
        if self._lines >= MOST_LINES + len(self._signed):
            self._journal.close()
            self._journal = _compact(self._path, self._signed)
            self._lines = len(self._signed)


def _lane(domain: EscrowDomain, worker: str) -> tuple[EscrowDomain, str]:
    return EscrowDomain(domain.chain_id, domain.contract.lower()), worker


def _read_journal(path: Path) -> dict[tuple[EscrowDomain, str], int]:
    """The highest of each; a torn last line was never handed out."""
    signed: dict[tuple[EscrowDomain, str], int] = {}
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for line in lines:
        entry = msgspec.json.decode(line, type=Signed)
        lane = _lane(entry.domain, entry.worker)
        signed[lane] = max(signed.get(lane, 0), entry.cumulative)
    return signed


def _compact(path: Path, signed: dict[tuple[EscrowDomain, str], int]) -> BufferedWriter:
    entries = [Signed(domain, worker, cumulative) for (domain, worker), cumulative in signed.items()]
    write_private(path, b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
    return path.open("ab")
