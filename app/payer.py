"""The wallet as a requester uses it: signs for jobs, keeps what was signed, sets collateral aside for a worker once.

Never signs more than a job's amount. What was signed for a job and not used stays as credit for the next one there.
"""

from __future__ import annotations

import time
from functools import partial

import trio

from core.job import JobId, PeerId
from core.network import Network
from core.offer import Quote
from core.payments.chain import EscrowChain
from core.payments.chain_values import ChainError
from core.payments.devnet_deploy import Deployment, fund
from core.payments.signer_book import SignerBookUnusable
from core.payments.voucher import CLAIM_LIFE_S, EscrowDomain, JobClaim, Party, Voucher
from core.payments.wallet import Wallet
from core.store import Store
from p2p.messages import PayerProof

COLLATERAL_UNITS = 2
DEVNET_FUNDS_UNITS = 100
GAS_WEI = 10**17


class WalletPayer:
    """Implements the swarm's Payer. One per home and process."""

    def __init__(self, wallet: Wallet, store: Store, *, chain: EscrowChain, network: Network) -> None:
        self._wallet = wallet
        self._store = store
        self._chain = chain
        self._network = network
        self._domain = EscrowDomain(network.chain_id, network.escrow)
        self._signed: dict[JobId, int] = {}
        self._workers: dict[JobId, str] = {}
        self._secured: set[str] = set()
        self._lock = trio.Lock()
        self._spent = 0

    @property
    def party(self) -> Party:
        """Whose money it is."""
        return self._wallet.party

    def prove(self, job_id: JobId, provider: PeerId) -> PayerProof:
        """Our word, for this provider alone, that the job is ours to pay."""
        claim = JobClaim(self.party.id, job_id, provider, int(time.time()) + CLAIM_LIFE_S)
        return PayerProof(claim.expires, self._wallet.sign_job_claim(self._domain, claim))

    async def pay(self, quote: Quote, amount: int) -> Voucher | str:
        """A voucher that brings what was signed for this job to amount, or why not."""
        try:
            worker = Party(quote.worker_owner, quote.worker_hot).id
        except ValueError:
            return "The peer's quote does not say whom to pay."
        async with self._lock:
            try:
                return await trio.to_thread.run_sync(partial(self._pay, quote.job_id, worker, amount=amount))
            except ChainError as error:
                return f"The payment could not be secured: {error}"
            except SignerBookUnusable as error:
                return str(error)

    @property
    def spent(self) -> int:
        """What all jobs of this process were signed for, less what came back as credit."""
        return self._spent

    async def settle(self, job_id: JobId, amount: int) -> None:
        """The job cost this much: what was signed beyond it is credit for the next job."""
        signed, worker = self._signed.pop(job_id, 0), self._workers.pop(job_id, "")
        if worker and signed > amount:
            self._spent -= signed - amount
            await trio.to_thread.run_sync(self._spend, worker, amount - signed)

    def _pay(self, job_id: JobId, worker: str, *, amount: int) -> Voucher:
        if worker not in self._secured:
            self._secure(worker)
            self._secured.add(worker)
        added = max(0, amount - self._signed.get(job_id, 0))
        cumulative = self._spend(worker, added)
        self._spent += added
        self._signed[job_id] = max(amount, self._signed.get(job_id, 0))
        self._workers[job_id] = worker
        return self._wallet.sign_at_least(self._domain, worker=worker, cumulative=cumulative)

    def _spend(self, worker: str, change: int) -> int:
        """A lane is one worker at one escrow; what the wallet has signed there is where it starts from."""
        lane = f"{self._domain.chain_id}:{self._domain.contract.lower()}:{worker}"
        signed = self._wallet.cumulative(self._domain, worker)
        return self._store.spend(lane, change, signed=signed, at=time.time())

    def _secure(self, worker: str) -> None:
        """Collateral for this worker's lane, from the party's free balance; a devnet's faucet fills that first."""
        unit = 10**self._network.decimals
        lane = self._chain.lane(self.party.id, worker)
        if lane.reserved >= COLLATERAL_UNITS * unit // 2:
            return
        free = self._chain.account(self.party).free
        if self._network.is_devnet and free < COLLATERAL_UNITS * unit:
            fund_devnet(self._network, self.party, amount=DEVNET_FUNDS_UNITS * unit)
            free = self._chain.account(self.party).free
        amount = min(COLLATERAL_UNITS * unit, free)
        if amount > 0:
            self._chain.reserve(self._wallet.hot_key, (self.party, worker), amount=amount, record=self._keep)

    def _keep(self, transaction: str, raw: bytes) -> None:
        self._store.keep_transaction(transaction, raw.hex(), purpose="reserve", at=time.time())


def fund_devnet(network: Network, party: Party, *, amount: int) -> None:
    """Test money from a devnet's unlocked account: amount in the escrow, and ether for fees."""
    deployment = Deployment(
        chain_id=network.chain_id,
        escrow=network.escrow,
        token=network.token,
        decimals=network.decimals,
        symbol=network.symbol,
    )
    fund(network.rpc, deployment, party=party, amount=amount, gas_wei=GAS_WEI)
