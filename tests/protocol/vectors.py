"""The golden vectors in tests/vectors/protocol: what every implementation must write, read, sign and refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from core.framing import encode_frame, encode_varint
from core.payments.voucher import (
    MAX_AMOUNT,
    Voucher,
    domain_separator,
    job_claim_digest,
    recover_signer,
    sign_voucher,
    voucher_digest,
)
from p2p.messages import offer_bytes, quote_bytes
from p2p.offer_exchange import provider_key
from p2p.peer_record import record_bytes
from p2p.row_messages import rows_bytes
from tests.protocol import samples as s
from tests.protocol.bad_frames import bad_frames, bad_proposals
from tests.protocol.dialogues import dialogues
from tests.protocol.spoken import PROTOCOLS, Spoken
from tests.protocol.tables import frame_example

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "protocol"
FLOATS = (0.0, -0.0, 1.0, 60.0, 0.1, 0.35, 1e-4, 1e-5, 1.5e-6, 1e-7, 1_900_000_000.25, 123_456_789_012_345.6, 1e15,
          1e16, 1.2345678901234568e17, 1e21, 1e22, 5e-324, 1.7976931348623157e308)  # fmt: skip
LENGTHS = (0, 1, 127, 128, 300, 16_383, 16_384, 65_536, 4_194_304, 268_435_455)


def vectors() -> dict[str, Any]:
    """Every file's content by its name."""
    made: dict[str, Any] = {spoken.key: _protocol(spoken) for spoken in PROTOCOLS}
    made["job"]["refused_proposals"] = bad_proposals()
    made |= {"dialogues": dialogues(), "signed": _signed(), "payments": _payments()}
    return {**made, "framing": _framing(), "names": _names()}


def write_vectors() -> None:
    """Write all of them anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in vectors().items():
        (FOLDER / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def examples() -> str:
    """One frame of each kind of the job protocol, for the document."""
    frames = [frame_example(message) for message in s.samples()["job"][:3]]
    return "\n".join(["```text", *frames, "```"])


def _protocol(spoken: Spoken) -> dict[str, Any]:
    good = [_good(spoken, message) for message in s.samples()[spoken.key]]
    longest = {"asks": spoken.asks.most, "answers": spoken.answers.most}
    return {"protocol": spoken.name, "longest_frame": longest, "good": good, "bad": bad_frames(spoken)}


def _good(spoken: Spoken, message: msgspec.Struct) -> dict[str, Any]:
    says = "asks" if isinstance(message, spoken.asks.kinds) else "answers"
    return {"says": says, "value": message, "frame": encode_frame(message).hex()}


def _signed() -> dict[str, Any]:
    """Ed25519: the key, and each value with its exact bytes and signature; then signatures that must not be taken."""
    made = [
        _one_signed("offer", s.OFFER, offer_bytes(s.OFFER)),
        _one_signed("quote", s.QUOTE, quote_bytes(s.QUOTE)),
        _one_signed("record", s.RECORD, record_bytes(s.RECORD)),
        _one_signed("rows", s.signed_rows(), rows_bytes(s.signed_rows())),
    ]
    other = {**made[0], "why": "another peer's signature", "signature": s.OTHER.sign(offer_bytes(s.OFFER))}
    dearer = {**made[0], "why": "one unit dearer than what was signed"}
    price = msgspec.structs.replace(s.PRICE, output_per_mtok=s.PRICE.output_per_mtok + 1)
    dearer["value"] = msgspec.structs.replace(s.OFFER, price=price)
    short = {**made[1], "why": "a byte short", "signature": made[1]["signature"][:-2]}
    return {
        "seed": s.SEED.hex(),
        "peer_id": s.IDENTITY.peer_id,
        "good": made,
        "bad": [other, dearer, short],
        "floats": [{"number": msgspec.json.encode(number).decode()} for number in FLOATS],
    }


def _one_signed(kind: str, value: msgspec.Struct, signed: bytes) -> dict[str, Any]:
    return {"kind": kind, "value": value, "bytes": signed.hex(), "signature": s.IDENTITY.sign(signed)}


def _payments() -> dict[str, Any]:
    """EIP-712: party ids, the domain, vouchers and the claim, with digests and signatures."""
    vouchers = []
    for cumulative in (0, 1, s.COST, (1 << 53) + 1, MAX_AMOUNT):
        voucher = sign_voucher(s.HOT_KEY, s.DOMAIN, payer=s.PAYER, worker=s.WORKER.id, cumulative=cumulative)
        digest = voucher_digest(s.DOMAIN, payer=s.PAYER.id, worker=s.WORKER.id, cumulative=cumulative)
        signer = recover_signer(s.DOMAIN, voucher)
        vouchers.append({"voucher": voucher, "digest": "0x" + digest.hex(), "signer": signer})
    good: Voucher = vouchers[2]["voucher"]  # type: ignore[assignment]
    return {
        "hot_key": "0x" + s.HOT_KEY.hex(),
        "payer": {"owner": s.PAYER.owner, "hot": s.PAYER.hot, "id": s.PAYER.id},
        "worker": {"owner": s.WORKER.owner, "hot": s.WORKER.hot, "id": s.WORKER.id},
        "domain": s.DOMAIN,
        "domain_separator": "0x" + domain_separator(s.DOMAIN).hex(),
        "vouchers": vouchers,
        "claim": {"claim": s.CLAIM, "digest": "0x" + job_claim_digest(s.DOMAIN, s.CLAIM).hex(), "proof": s.proof()},
        "bad": [
            {"why": "the amount was changed", "voucher": msgspec.structs.replace(good, cumulative=good.cumulative + 1)},
            {"why": "s is in the upper half of the order", "voucher": _high_s(good)},
            {"why": "r is no point of the curve", "voucher": msgspec.structs.replace(good, signature="0x" + "ff" * 64)},
        ],
    }


def _high_s(voucher: Voucher) -> Voucher:
    """The other signature of the same digest, which the contract does not take."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    raw = bytes.fromhex(voucher.signature[2:])
    vs = int.from_bytes(raw[32:])
    parity, low = vs >> 255, vs & (1 << 255) - 1
    high = (order - low) | (0 if parity else 1 << 255)
    return msgspec.structs.replace(voucher, signature="0x" + (raw[:32] + (high % (1 << 256)).to_bytes(32)).hex())


def _names() -> dict[str, Any]:
    """What is called what: swarm ids, and the DHT keys of models."""
    networks = [s.NETWORK, msgspec.structs.replace(s.NETWORK, escrow="0x" + s.NETWORK.escrow[2:].upper())]
    return {
        "swarm_ids": [
            {"name": n.name, "chain_id": n.chain_id, "escrow": n.escrow, "swarm_id": n.swarm_id} for n in networks
        ],
        "provider_keys": [
            {"swarm": s.SWARM, "model": model, "key": provider_key(s.SWARM, model).hex()} for model in ("tiny", "größe")
        ],
    }


def _framing() -> dict[str, Any]:
    bad = [
        {"why": "a length that goes on after five bytes", "bytes": "ffffffffff"},
        {"why": "a length that goes on after five bytes, of zeros", "bytes": "8080808080"},
    ]
    return {"lengths": [{"length": n, "varint": encode_varint(n).hex()} for n in LENGTHS], "bad": bad}
