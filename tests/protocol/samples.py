"""One good message of every kind, signed with published test keys: what the golden vectors and examples are made of."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from core.device import DeviceKind
from core.job import (
    ChatMessage,
    JobId,
    JobRequest,
    JobState,
    JobTerms,
    Price,
    PriorityClass,
    QualityClass,
    Sampling,
    Usage,
    charge,
)
from core.metamodel.federation import SharedRow
from core.network import Network
from core.offer import Offer, Quote, Reject
from core.payments.voucher import (
    MAX_AMOUNT,
    EscrowDomain,
    JobClaim,
    Party,
    address_of,
    job_claim_digest,
    sign_digest,
    sign_voucher,
)
from p2p import messages as m
from p2p import model_messages as f
from p2p import peer_messages as p
from p2p import reach_messages as r
from p2p import row_messages as w
from p2p.identity import Identity
from p2p.peer_record import PeerRecord, SignedRecord, record_bytes

SEED = bytes(range(32))
IDENTITY = Identity(SEED)
OTHER = Identity(bytes(32))
HOT_KEY = bytes.fromhex("11" * 32)
DOMAIN = EscrowDomain(31_337, "0x425b08c151727c90ec4ba43893cf5f5d5c8d973f")
PAYER = Party("0xCaEDE9f01b1d48f679ea4dfd7ef5a7d0d7931d23", address_of(HOT_KEY))
WORKER = Party("0x16deb4bbe507fe15ddc2722612f3e38da8160db1", "0x3b2fb0049ca71b9a26c307fdfb1ca6dc98c83bcb")
NETWORK = Network("test-net", DOMAIN.chain_id, "http://127.0.0.1:8545", DOMAIN.contract, WORKER.owner, "tUSD", 6)
SWARM = NETWORK.swarm_id
AT = 1_900_000_000.25
FILE = sha256(b"a model").hexdigest()
ADDRESSES = ("/ip4/192.0.2.7/tcp/4001", "/ip4/192.0.2.7/tcp/4002/ws")
PRICE = Price(500_000, 1_500_000, 25)

OFFER = Offer(
    peer_id=IDENTITY.peer_id, model="llama-3-8b", source_sha256=FILE, quantization="q4_k_m", price=PRICE,
    prefill_tokens_per_s=1234.5, decode_tokens_per_s=40.0, slots=4, context_tokens=8192,
    worker_owner=WORKER.owner, worker_hot=WORKER.hot, issued_at=AT, expires_at=AT + 120, sequence=7,
)  # fmt: skip
TERMS = JobTerms(
    job_id=JobId("job-1"), model="llama-3-8b", priority=PriorityClass.INTERACTIVE, quality=QualityClass.PREMIUM,
    deadline_s=30.0, bid_per_mtok=2_000_000, max_tokens=64, max_total=1_000_000, prompt_bytes=25, fan_out=2,
)  # fmt: skip
REQUEST = JobRequest(
    TERMS,
    (ChatMessage("system", "Be short."), ChatMessage("user", 'Say "Grüße" – 🐦\n')),
    Sampling(max_tokens=64, temperature=0.7, seed=5, stop=("\n\n",), logit_bias=((13, -100.0),)),
)
QUOTE = Quote(
    job_id=TERMS.job_id, price=PRICE, prompt_tokens=21, ttft_p90_s=0.35, tpot_s=0.025, window_tokens=16,
    worker_owner=WORKER.owner, worker_hot=WORKER.hot, model=TERMS.model, quantization="q4_k_m", expires_at=AT + 10,
)  # fmt: skip
RECORD = PeerRecord(IDENTITY.peer_id, SWARM, ADDRESSES, AT, AT + 7200, 1_900_000_000_250)
ROW = SharedRow(
    backend="cuda", kind=DeviceKind.GPU, memory_gib=24.0, bandwidth_gbs=940.0, matrix_tflops=71.0, runtime="llama.cpp",
    quantization="q4_k_m", kv_type="f16", parameters=8e9, layers=32.0, hidden=4100.0, kv_width=1000.0, file_bytes=4.9e9,
    gpu_share=1.0, chunk_tokens=510.0, batch=1.0, depth=1000.0, prompt_tokens=500.0, prefill_tokens_per_s=3900.0,
    decode_tokens_per_s=110.0,
)  # fmt: skip
TEXT = "Grüße! 🐦"
USAGE = Usage(21, 4)
COST = charge(PRICE, USAGE)
CLAIM = JobClaim(PAYER.id, TERMS.job_id, IDENTITY.peer_id, int(AT) + 600)


def signed_offer(offer: Offer = OFFER) -> m.SignedOffer:
    """With the test key's signature."""
    return m.SignedOffer(offer, IDENTITY.sign(m.offer_bytes(offer)), ADDRESSES)


def signed_record() -> SignedRecord:
    """With the test key's signature."""
    return SignedRecord(RECORD, IDENTITY.sign(record_bytes(RECORD)))


def signed_rows() -> w.SignedRows:
    """With the test key's signature."""
    rows = w.SignedRows(IDENTITY.peer_id, int(AT // 86_400), (ROW,))
    return msgspec.structs.replace(rows, signature=IDENTITY.sign(w.rows_bytes(rows)))


def proof() -> m.PayerProof:
    """With the test wallet's signature."""
    return m.PayerProof(CLAIM.expires, sign_digest(HOT_KEY, job_claim_digest(DOMAIN, CLAIM)))


def samples() -> dict[str, list[msgspec.Struct]]:
    """Messages by the key of their protocol (tests.protocol.spoken), every kind at least once."""
    voucher = sign_voucher(HOT_KEY, DOMAIN, payer=PAYER, worker=WORKER.id, cumulative=COST)
    most = sign_voucher(HOT_KEY, DOMAIN, payer=PAYER, worker=WORKER.id, cumulative=MAX_AMOUNT)
    return {
        "hello": [p.Hello(SWARM, AT, signed_record()), p.Hello(SWARM, AT)],
        "query": [
            m.GetOffers("llama-3-8b"), m.GetOffers(), m.Tell((signed_offer(),)), m.Ping(5), m.Offers((signed_offer(),)),
            m.Offers(()), m.Pong(5, ("llama-3-8b",)),
        ],
        "job": [
            m.Propose(REQUEST, PAYER, proof()), m.Resume(TERMS.job_id, 3), m.Pay(voucher), m.Pay(most), m.Cancel(),
            m.Keep(), m.Quoted(QUOTE, IDENTITY.sign(m.quote_bytes(QUOTE))),
            m.Rejected(Reject(TERMS.job_id, "The queue is full.", 3.0)), m.Resumed(3), m.AmountDue(12),
            m.Chunk(0, TEXT, 4), m.Finished(USAGE, "stop", COST, sha256(TEXT.encode()).hexdigest()),
            m.Failed(JobState.CANCELLED, "The requester cancelled.", USAGE, COST),
        ],
        "peers": [p.GetPeers(), p.Peers((signed_record(),))],
        "reach": [
            r.CheckReach("0f" * 16, (4001,)), r.DialBack(OTHER.peer_id, ("/ip4/192.0.2.7/tcp/4001",), "0f" * 16),
            r.Reached("0f" * 16, "/ip4/192.0.2.7/tcp/4001"), r.Checked("192.0.2.7", 50_000, was_tried=True),
            r.Dialled(was_tried=True, address="/ip4/192.0.2.7/tcp/4001"),
        ],
        "model": [
            f.GetModel(FILE), f.GetManifest(FILE), f.GetPieces(FILE, (0, 1)),
            f.ModelHere((f.OneFile(FILE, 1_500_000),), "llama-3-8b", "Llama 3 8B", "q4_k_m", "llama3"),
            f.ManifestHere(1_500_000, 1 << 20, 64), f.PieceHere(1, 451_424), f.NotHere("It is being prepared.", 5.0),
        ],
        "rows": [w.GetRows(), w.Rows((signed_rows(),))],
    }  # fmt: skip
