"""Small stand-ins for streams, wallets and engines, used by the p2p tests only."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from core.job import ChatMessage, JobId, JobRequest, JobState, JobTerms, PeerId, Price, PriorityClass, Sampling, Usage
from core.job import charge as charge
from core.job_output import JobOutput, OutputChunk, OutputDue, OutputEnded
from core.offer import Offer, Quote, Reject
from core.payments.voucher import (
    CLAIM_LIFE_S,
    EscrowDomain,
    JobClaim,
    Party,
    Voucher,
    address_of,
    job_claim_digest,
    sign_digest,
)
from p2p.byte_stream import StreamBroken
from p2p.identity import Identity
from p2p.job_sales import JobSales, SalesPorts
from p2p.messages import PayerProof
from p2p.token_bucket import Rate
from p2p.trust import Fault

PAYER_KEY = b"\x42" * 32
PAYER = Party("0x" + "11" * 20, address_of(PAYER_KEY))
DOMAIN = EscrowDomain(31_337, "0x" + "55" * 20)
NOW = 1_000_000_000.0
NO_LIMIT = Rate(per_s=1e6, burst=1e6)
WORKER = Party("0x" + "33" * 20, "0x" + "44" * 20)
PRICE = Price(100_000, 1_000_000)  # 0.1 and 1 unit a token
PROMPT_TOKENS = 10
SIGNATURE = "0x" + "ab" * 64


def a_request(job_id: str = "job-1", *, model: str = "tiny", max_tokens: int = 64, max_total: int = 0) -> JobRequest:
    terms = JobTerms(JobId(job_id), model, PriorityClass.INTERACTIVE, max_tokens=max_tokens, max_total=max_total)
    return JobRequest(terms, (ChatMessage("user", "hello there"),), Sampling(max_tokens=max_tokens))


def a_quote(request: JobRequest, *, window_tokens: int = 8) -> Quote:
    return Quote(
        job_id=request.terms.job_id,
        price=PRICE,
        prompt_tokens=PROMPT_TOKENS,
        ttft_p90_s=0.1,
        tpot_s=0.01,
        window_tokens=window_tokens,
        worker_owner=WORKER.owner,
        worker_hot=WORKER.hot,
        model=request.terms.model,
        quantization="Q8_0",
        expires_at=2e9,
    )


def an_offer(peer_id: str, *, model: str = "tiny", expires_at: float = 2e9, sequence: int = 0) -> Offer:
    return Offer(
        peer_id=peer_id,
        model=model,
        source_sha256="00" * 32,
        quantization="Q8_0",
        price=PRICE,
        prefill_tokens_per_s=100.0,
        decode_tokens_per_s=20.0,
        slots=4,
        context_tokens=2048,
        worker_owner=WORKER.owner,
        worker_hot=WORKER.hot,
        issued_at=1e9,
        expires_at=expires_at,
        sequence=sequence,
    )


def a_voucher(amount: int) -> Voucher:
    return Voucher(PAYER, WORKER.id, amount, SIGNATURE)


def a_proof(job_id: str, provider: str, *, key: bytes = PAYER_KEY, lives_s: int = CLAIM_LIFE_S) -> PayerProof:
    expires = int(NOW) + lives_s
    claim = JobClaim(PAYER.id, job_id, provider, expires)
    return PayerProof(expires, sign_digest(key, job_claim_digest(DOMAIN, claim)))


def sales_ports(faults: list[tuple[PeerId, Fault]] | None = None, *, each: Rate = NO_LIMIT) -> SalesPorts:
    heard = [] if faults is None else faults
    return SalesPorts(DOMAIN, lambda peer, fault: heard.append((peer, fault)), lambda: NOW, each, NO_LIMIT)


def sales_of(host: FakeHost, identity: Identity) -> JobSales:
    return JobSales(host, identity, ports=sales_ports())


class MemoryStream:
    """One end of a stream in memory; is_cut breaks both ends as a killed peer would."""

    def __init__(self, send: trio.MemorySendChannel[bytes], receive: trio.MemoryReceiveChannel[bytes]) -> None:
        self._send = send
        self._receive = receive
        self.blamed = 0

    def blame(self) -> None:
        self.blamed += 1

    async def read(self) -> bytes:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            return b""
        except trio.ClosedResourceError as error:
            raise StreamBroken("The stream was reset.") from error

    async def write(self, sent: bytes) -> None:
        try:
            await self._send.send(sent)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StreamBroken("The stream was reset.") from error

    async def close(self) -> None:
        self._send.close()

    async def reset(self) -> None:
        self._send.close()
        self._receive.close()


def stream_pair() -> tuple[MemoryStream, MemoryStream]:
    there_send, there_receive = trio.open_memory_channel[bytes](1_000)
    back_send, back_receive = trio.open_memory_channel[bytes](1_000)
    return MemoryStream(there_send, back_receive), MemoryStream(back_send, there_receive)


class FakePayer:
    """Signs anything up to its purse."""

    party = PAYER

    def __init__(self, purse: int = 1_000_000) -> None:
        self.purse = purse
        self.signed: list[int] = []

    def prove(self, job_id: JobId, provider: PeerId) -> PayerProof:
        return a_proof(job_id, provider)

    async def pay(self, quote: Quote, amount: int) -> Voucher | str:
        await trio.lowlevel.checkpoint()
        if amount > self.purse:
            return "The wallet is empty."
        self.signed.append(amount)
        return a_voucher(amount)


class FakeHost:
    """Runs each job as a list of words, one token each; stops one window ahead of payment."""

    def __init__(self, words: Iterable[str], *, window_tokens: int = 8, refusal: str = "", pace_s: float = 0.0) -> None:
        self.words = tuple(words)
        self.window_tokens = window_tokens
        self.refusal = refusal
        self.pace_s = pace_s
        self.paid = 0
        self.cancelled = ""
        self.ended: OutputEnded | None = None
        self.peer = ""
        self.on_paid = trio.Event()

    async def quote(self, request: JobRequest, payer: Party, *, peer: PeerId) -> Quote | Reject:
        self.peer = peer
        if self.refusal:
            return Reject(request.terms.job_id, self.refusal, 1.0)
        return a_quote(request, window_tokens=self.window_tokens)

    async def accept_payment(self, job_id: JobId, voucher: Voucher) -> int | str:
        if voucher.cumulative < self.paid:
            return "The voucher is for less than an earlier one."
        self.paid = voucher.cumulative
        self.on_paid.set()
        return self.paid

    async def start(self, job_id: JobId) -> trio.MemoryReceiveChannel[JobOutput] | str:
        if self.paid < charge(PRICE, Usage(PROMPT_TOKENS, 0)):
            return "The first payment does not cover the prompt."
        send, receive = trio.open_memory_channel[JobOutput](4_096)
        trio.lowlevel.spawn_system_task(self._run, send)
        return receive

    async def cancel(self, job_id: JobId, reason: str) -> None:
        self.cancelled = self.cancelled or reason
        self.on_paid.set()

    async def _run(self, send: trio.MemorySendChannel[JobOutput]) -> None:
        made, asked = 0, 0
        for word in self.words:
            while not self.cancelled and charge(PRICE, Usage(PROMPT_TOKENS, made - self.window_tokens)) >= self.paid:
                await self._wait()
            if self.cancelled:
                break
            made += 1
            if not self._offer(send, OutputChunk(word, made)):
                return
            if made - asked >= self.window_tokens // 2:
                asked = made
                self._offer(send, OutputDue(charge(PRICE, Usage(PROMPT_TOKENS, made))))
            await trio.sleep(self.pace_s)
        state = JobState.CANCELLED if self.cancelled else JobState.FINISHED
        usage = Usage(PROMPT_TOKENS, made) if made else Usage()
        self.ended = OutputEnded(state, self.cancelled or "stop", usage, charge(PRICE, usage))
        self._offer(send, self.ended)
        send.close()

    async def _wait(self) -> None:
        self.on_paid = trio.Event()
        await self.on_paid.wait()

    def _offer(self, send: trio.MemorySendChannel[JobOutput], output: JobOutput) -> bool:
        try:
            send.send_nowait(output)
        except trio.BrokenResourceError:
            return False
        return True
