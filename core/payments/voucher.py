"""Vouchers: what a payer signs for a worker, and how anyone checks it. EIP-712 typed data, EIP-2098 signatures.

Pure but for the curve: no chain, no disk, no clock. The domain and types mirror assets/contracts/src/ComputeEscrow.sol.
Never sees a key longer than one call, and never decides whether signing is wise: the wallet and the channel do.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from coincurve import PrivateKey, PublicKey
from eth_hash.auto import keccak

MAX_AMOUNT = (1 << 96) - 1
CLAIM_LIFE_S = 600
MAX_CLAIM_LIFE_S = 2 * CLAIM_LIFE_S  # a payer's clock may be wrong by ten minutes either way
SIGNATURE_BYTES = 64

Address = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-fA-F]{40}\Z")]
PartyId = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}\Z")]
Amount = Annotated[int, msgspec.Meta(ge=0)]  # and at most MAX_AMOUNT: msgspec has no bounds beyond 64 bits
Signature = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{128}\Z")]

UNPROVEN = "The job is not signed for by its payer."

_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_PARITY_BIT = 1 << 255
_DOMAIN_TYPE = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_VOUCHER_TYPE = keccak(b"Voucher(bytes32 payer,bytes32 worker,uint96 cumulative)")
_RELAY_FEE_TYPE = keccak(b"RelayFee(bytes32 worker,address relayer,uint96 fee,uint32 nonce,uint40 deadline)")
_JOB_CLAIM_TYPE = keccak(b"JobClaim(bytes32 payer,string job,string provider,uint40 expires)")
_NAME = keccak(b"ComputeEscrow")
_VERSION = keccak(b"1")


class BadSignature(ValueError):
    """These bytes are no signature that the contract would take."""


class Party(msgspec.Struct, frozen=True):
    """Who pays or is paid: owner, the only address money goes to, and hot, the key that signs. 0x hex, any case."""

    owner: Address
    hot: Address

    @property
    def id(self) -> str:
        """keccak256(abi.encode(owner, hot)) as 0x and 64 lower-case hex digits. Raises ValueError on a bad address."""
        return _hex(keccak(_address_word(self.owner) + _address_word(self.hot)))


class EscrowDomain(msgspec.Struct, frozen=True):
    """Which escrow a signature is for; the same bytes mean nothing to any other chain or contract."""

    chain_id: int
    contract: Address


class Voucher(msgspec.Struct, frozen=True):
    """The payer owes the worker `cumulative` in all since the beginning. signature is 0x and r || vs (EIP-2098)."""

    payer: Party
    worker: PartyId
    cumulative: Amount
    signature: Signature


class RelayFee(msgspec.Struct, frozen=True):
    """A worker without gas lets `relayer` keep `fee` of its payout; good for one nonce, until deadline (epoch s)."""

    worker: PartyId
    relayer: Address
    fee: Amount
    nonce: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    deadline: Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]


class JobClaim(msgspec.Struct, frozen=True):
    """This payer will pay for this job at this provider (a peer id): what the payer's hot key signs before a quote is
    made, so that nobody can ask, and fill places, in another's name. expires is in seconds since the epoch."""

    payer: PartyId
    job: str
    provider: str
    expires: Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]


def sign_voucher(key: bytes, domain: EscrowDomain, *, payer: Party, worker: str, cumulative: int) -> Voucher:
    """Sign with the payer's hot key (32 bytes). Raises ValueError if an amount, id or key is out of bounds."""
    if address_of(key).lower() != payer.hot.lower():
        raise ValueError("the key is not the payer's hot key")
    digest = voucher_digest(domain, payer=payer.id, worker=worker, cumulative=cumulative)
    return Voucher(payer, worker, cumulative, sign_digest(key, digest))


def recover_signer(domain: EscrowDomain, voucher: Voucher) -> str:
    """The address (0x, lower case) that signed. Raises BadSignature, or ValueError if a field is out of bounds."""
    digest = voucher_digest(
        domain, payer=voucher.payer.id, worker=voucher.worker, cumulative=voucher.cumulative
    )
    return recover_digest(digest, voucher.signature)


def voucher_digest(domain: EscrowDomain, *, payer: str, worker: str, cumulative: int) -> bytes:
    """The 32 bytes that a voucher's signature signs; payer and worker are party ids."""
    words = _id_word(payer) + _id_word(worker) + _uint_word(cumulative, bits=96)
    return _typed_digest(domain, keccak(_VOUCHER_TYPE + words))


def relay_fee_digest(domain: EscrowDomain, fee: RelayFee) -> bytes:
    """The 32 bytes that the worker's hot key signs to name a relayer."""
    words = _id_word(fee.worker) + _address_word(fee.relayer) + _uint_word(fee.fee, bits=96)
    words += _uint_word(fee.nonce, bits=32) + _uint_word(fee.deadline, bits=40)
    return _typed_digest(domain, keccak(_RELAY_FEE_TYPE + words))


def job_claim_digest(domain: EscrowDomain, claim: JobClaim) -> bytes:
    """The 32 bytes that the payer's hot key signs for a claim. Raises ValueError if a field is out of bounds."""
    words = _id_word(claim.payer) + keccak(claim.job.encode()) + keccak(claim.provider.encode())
    return _typed_digest(domain, keccak(_JOB_CLAIM_TYPE + words + _uint_word(claim.expires, bits=40)))


def job_claim_fault(domain: EscrowDomain, claim: JobClaim, *, hot: str, signature: str, now: float) -> str | None:
    """Why this claim is not good now, or None. hot is the payer's signing address."""
    if not now < claim.expires <= now + MAX_CLAIM_LIFE_S:
        return "The proof of who pays is expired or lives too long. Check the clock of this computer."
    try:
        signer = recover_digest(job_claim_digest(domain, claim), signature)
    except ValueError:
        signer = ""
    return None if signer == hot.lower() else UNPROVEN


def domain_separator(domain: EscrowDomain) -> bytes:
    """EIP-712's hash of the domain, to compare with the contract's own."""
    place = _uint_word(domain.chain_id, bits=256) + _address_word(domain.contract)
    return keccak(_DOMAIN_TYPE + _NAME + _VERSION + place)


def address_of(key: bytes) -> str:
    """The address (0x, lower case) of a 32-byte private key. Raises ValueError on a key off the curve."""
    return _address(PublicKey.from_secret(key))


def sign_digest(key: bytes, digest: bytes) -> str:
    """0x and r || vs of a 32-byte digest; deterministic (RFC 6979), low s."""
    signature = PrivateKey(key).sign_recoverable(digest, hasher=None)
    s = int.from_bytes(signature[32:64]) | (_PARITY_BIT if signature[64] & 1 else 0)
    return _hex(signature[:32] + s.to_bytes(32))


def recover_digest(digest: bytes, signature: str) -> str:
    """The address (0x, lower case) behind r || vs. Raises BadSignature, also for a high s, as the contract does."""
    try:
        r_vs = _bytes(signature, SIGNATURE_BYTES)
    except ValueError as error:
        raise BadSignature(str(error)) from error
    vs = int.from_bytes(r_vs[32:])
    s = vs & ~_PARITY_BIT
    if s > _CURVE_ORDER // 2:
        raise BadSignature("s is in the upper half of the curve's order")
    compact = r_vs[:32] + s.to_bytes(32) + bytes([vs >> 255])
    try:
        return _address(PublicKey.from_signature_and_message(compact, digest, hasher=None))
    except Exception as error:  # noqa: BLE001  coincurve raises a bare Exception when recovery fails
        raise BadSignature("no key could have made this signature") from error


def _typed_digest(domain: EscrowDomain, struct_hash: bytes) -> bytes:
    return bytes(keccak(b"\x19\x01" + domain_separator(domain) + struct_hash))


def _address(public_key: PublicKey) -> str:
    return _hex(keccak(public_key.format(compressed=False)[1:])[12:])


def _address_word(address: str) -> bytes:
    return _bytes(address, 20).rjust(32, b"\0")


def _id_word(party_id: str) -> bytes:
    return _bytes(party_id, 32)


def _uint_word(number: int, *, bits: int) -> bytes:
    if not 0 <= number < 1 << bits:
        raise ValueError(f"a number is outside uint{bits}")
    return number.to_bytes(32)


def _bytes(text: str, length: int) -> bytes:
    """Exactly `length` bytes of 0x hex. The length of the text counts too: fromhex would skip spaces."""
    try:
        if text.startswith("0x") and len(text) == 2 + 2 * length:
            return bytes.fromhex(text[2:])
    except ValueError:
        pass
    raise ValueError(f"not 0x and {length} bytes of hex")


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()
