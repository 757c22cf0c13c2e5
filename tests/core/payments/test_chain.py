"""The escrow on a real EVM, through the real JSON-RPC server: what the chain does is what the laws say."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from queue import Queue
from threading import Event, Thread

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.devnet_chain import Ready, Request, run
from core.payments import devnet_deploy
from core.payments.chain import EscrowChain, nonce_of
from core.payments.chain_values import (
    Account,
    ChainUnavailable,
    Lane,
    Receipt,
    TransactionRefused,
    WrongChain,
    WrongContract,
)
from core.payments.devnet_deploy import Deployment
from core.payments.voucher import Party, Voucher, address_of, sign_voucher

CHAIN_ID = 31337
FRESH = count(1000)  # keys that no other example used
TIMEOUT_S = 10.0
ETHER = 10**18


class Network(msgspec.Struct, frozen=True):
    rpc: str
    deployment: Deployment
    chain: EscrowChain


class Outbox:
    """Keeps what was recorded, in order."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, bytes]] = []

    def record(self, transaction: str, raw: bytes) -> None:
        self.rows.append((transaction, raw))


@pytest.fixture(scope="module", params=["py-evm", "anvil"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    if request.param == "anvil" and shutil.which("anvil") is None:
        pytest.skip("needs anvil on the PATH")
    stop, ready = Event(), Queue[Ready]()
    asked = Request(tmp_path_factory.mktemp("chain"), 0, CHAIN_ID, request.param, block_time_s=0.0)
    server = Thread(target=run, args=(asked, stop), kwargs={"announce": ready.put}, daemon=True)
    server.start()
    rpc = ready.get(timeout=TIMEOUT_S).rpc
    deployment = devnet_deploy.deploy(rpc, exit_delay_s=60)
    yield Network(rpc, deployment, connect(rpc, deployment))
    stop.set()
    server.join(TIMEOUT_S)


def connect(rpc: str, deployment: Deployment) -> EscrowChain:
    return EscrowChain.connect(
        rpc, chain_id=deployment.chain_id, escrow=deployment.escrow, token=deployment.token, timeout_s=TIMEOUT_S
    )


def key_of(number: int) -> bytes:
    return number.to_bytes(32)


def party_of(number: int) -> Party:
    return Party(f"0x{number:040x}", address_of(key_of(number)))


def payer_with(network: Network, number: int, amount: int) -> Party:
    devnet_deploy.fund(network.rpc, network.deployment, party=party_of(number), amount=amount, gas_wei=ETHER)
    return party_of(number)


def voucher(network: Network, payer: int, worker: Party, cumulative: int) -> Voucher:
    return sign_voucher(
        key_of(payer), network.chain.domain, payer=party_of(payer), worker=worker.id, cumulative=cumulative
    )


@contextmanager
def serving(answer: bytes) -> Iterator[str]:
    """A web server that is no node: it answers every POST with the same bytes."""

    class Fixed(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Fixed) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def mined(network: Network, transaction: str) -> Receipt:
    """The receipt, as soon as there is one: anvil mines a moment after it has answered."""
    deadline = time.monotonic() + TIMEOUT_S
    while (receipt := network.chain.receipt(transaction)) is None:
        assert time.monotonic() < deadline
    return receipt


def send(network: Network, method: str, *arguments: object, **named: object) -> str:
    """One of the chain's sending methods, mined."""
    transaction: str = getattr(network.chain, method)(*arguments, **named)
    mined(network, transaction)
    return transaction


def test_money_goes_from_deposit_to_the_owner(network: Network) -> None:
    chain, outbox = network.chain, Outbox()
    payer, worker = payer_with(network, 101, 1000), payer_with(network, 102, 0)
    assert chain.account(payer) == Account(1000, 0, 0)
    send(network, "reserve", key_of(101), (payer, worker.id), amount=600, record=outbox.record)
    assert (chain.account(payer).free, chain.lane(payer.id, worker.id)) == (400, Lane(600, 0, None))
    owed = [voucher(network, 101, worker, 250)]
    sent = send(network, "redeem", key_of(102), worker, vouchers=owed, record=outbox.record)
    assert chain.lane(payer.id, worker.id) == Lane(350, 250, None)
    assert chain.account(worker).earned == 250
    receipt = mined(network, sent)
    assert (receipt.paid, receipt.redeemed) == (250, {payer.id: 250})
    [event] = chain.redeemed_events(worker.id, 0)
    assert (event.transaction, event.block_hash) == (sent, receipt.block_hash)
    assert (event.payer, event.worker, event.paid, event.total) == (payer.id, worker.id, 250, 250)
    paid = send(network, "pay_out", key_of(102), worker, record=outbox.record)
    assert (mined(network, paid).paid_out, chain.account(worker).earned) == (250, 0)
    assert chain.token_balance(worker.owner) == 250


def test_many_lanes_are_cashed_in_one_transaction_and_again_changes_nothing(network: Network) -> None:
    chain, worker, payers = network.chain, payer_with(network, 110, 0), range(111, 116)
    for number in payers:
        payer_with(network, number, 100)
    vouchers = [voucher(network, number, worker, 10 * (number - 110)) for number in payers]
    sent = send(network, "redeem_and_pay_out", key_of(110), worker, vouchers=vouchers, record=Outbox().record)
    assert mined(network, sent).redeemed == {v.payer.id: v.cumulative for v in vouchers}
    assert mined(network, sent).paid == mined(network, sent).paid_out == 150
    assert chain.token_balance(worker.owner) == 150
    again = send(network, "redeem_and_pay_out", key_of(110), worker, vouchers=vouchers, record=Outbox().record)
    assert (mined(network, again).paid, chain.token_balance(worker.owner)) == (0, 150)


def test_a_debt_beyond_the_funds_is_paid_in_part_and_never_dies(network: Network) -> None:
    chain, worker = network.chain, payer_with(network, 121, 0)
    payer_with(network, 120, 30)
    owed = [voucher(network, 120, worker, 50)]
    send(network, "redeem", key_of(121), worker, vouchers=owed, record=Outbox().record)
    assert chain.account(worker).earned == 30
    payer_with(network, 120, 100)
    send(network, "redeem", key_of(121), worker, vouchers=owed, record=Outbox().record)
    assert (chain.account(worker).earned, chain.account(party_of(120)).free) == (50, 80)


def test_what_would_revert_is_refused_by_name_and_never_recorded(network: Network) -> None:
    chain, outbox, worker = network.chain, Outbox(), payer_with(network, 131, 0)
    payer = payer_with(network, 130, 10)
    forged = msgspec.structs.replace(voucher(network, 130, worker, 5), cumulative=6)
    with pytest.raises(TransactionRefused, match="WrongSigner"):
        chain.redeem(key_of(131), worker, vouchers=[forged], record=outbox.record)
    with pytest.raises(TransactionRefused, match="InsufficientFree"):
        chain.reserve(key_of(130), (payer, worker.id), amount=11, record=outbox.record)
    with pytest.raises(TransactionRefused, match="NotOwnerOrHot"):
        chain.withdraw(key_of(131), payer, amount=1, record=outbox.record)
    assert outbox.rows == []


def test_a_recorded_transaction_is_broadcast_again_without_doubling(network: Network) -> None:
    chain, outbox, worker = network.chain, Outbox(), payer_with(network, 141, 0)
    payer_with(network, 140, 100)
    owed = [voucher(network, 140, worker, 40)]
    sent = send(network, "redeem", key_of(141), worker, vouchers=owed, record=outbox.record)
    [(recorded, raw)] = outbox.rows
    assert recorded == sent
    assert chain.broadcast(raw) == sent
    assert (chain.account(worker).earned, nonce_of(raw)) == (40, 0)


def test_a_crash_between_record_and_broadcast_loses_nothing(network: Network) -> None:
    chain, outbox, worker = network.chain, Outbox(), payer_with(network, 151, 0)
    payer_with(network, 150, 100)

    def crash(transaction: str, raw: bytes) -> None:
        outbox.record(transaction, raw)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chain.redeem(key_of(151), worker, vouchers=[voucher(network, 150, worker, 40)], record=crash)
    [(recorded, raw)] = outbox.rows
    assert chain.receipt(recorded) is None
    send(network, "broadcast", raw)
    assert chain.account(worker).earned == 40


def test_a_transaction_whose_nonce_was_taken_is_refused(network: Network) -> None:
    chain, outbox, worker = network.chain, Outbox(), payer_with(network, 161, 0)
    payer_with(network, 160, 100)
    send(network, "redeem", key_of(161), worker, vouchers=[voucher(network, 160, worker, 40)], record=outbox.record)
    with pytest.raises(TransactionRefused, match="took this one's place"):
        chain.speed_up(key_of(161), outbox.rows[0][1], record=outbox.record)


def test_of_a_stuck_transaction_and_its_dearer_copy_only_one_is_mined(network: Network) -> None:
    chain, outbox, worker = network.chain, Outbox(), payer_with(network, 163, 0)
    payer_with(network, 162, 100)

    def lose(transaction: str, raw: bytes) -> None:
        outbox.record(transaction, raw)
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        chain.redeem(key_of(163), worker, vouchers=[voucher(network, 162, worker, 40)], record=lose)
    stuck = outbox.rows[0][1]
    send(network, "speed_up", key_of(163), stuck, record=outbox.record)
    assert (chain.account(worker).earned, len(outbox.rows)) == (40, 2)
    with pytest.raises(TransactionRefused):
        chain.broadcast(stuck)


def test_without_ether_for_the_fee_nothing_is_recorded(network: Network) -> None:
    outbox = Outbox()
    payer_with(network, 164, 100)
    with pytest.raises(TransactionRefused):
        network.chain.redeem(key_of(165), party_of(165), vouchers=[], record=outbox.record)
    assert outbox.rows == []


def test_two_threads_with_one_key_never_share_a_nonce(network: Network) -> None:
    outbox = Outbox()
    worker = payer_with(network, 167, 0)
    threads = [
        Thread(target=network.chain.pay_out, args=(key_of(167), worker), kwargs={"record": outbox.record})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert sorted(nonce_of(raw) for _, raw in outbox.rows) == [0, 1, 2, 3]


def test_confirmations_grow_with_blocks(network: Network) -> None:
    chain, worker = network.chain, payer_with(network, 171, 0)
    payer_with(network, 170, 100)
    owed = [voucher(network, 170, worker, 40)]
    sent = send(network, "redeem", key_of(171), worker, vouchers=owed, record=Outbox().record)
    first = mined(network, sent)
    devnet_deploy.mine(network.rpc, 3)
    later = mined(network, sent)
    assert (first.is_success, first.confirmations, later.confirmations) == (True, 1, 4)
    assert chain.receipt("0x" + "ab" * 32) is None


def test_an_exit_is_seen_and_taken_back_by_a_new_reserve(network: Network) -> None:
    chain, outbox, worker = network.chain, Outbox(), party_of(181)
    payer = payer_with(network, 180, 100)
    lane = (payer, worker.id)
    send(network, "reserve", key_of(180), lane, amount=100, record=outbox.record)
    send(network, "start_exit", key_of(180), lane, record=outbox.record)
    [event] = chain.exit_events(worker.id, 0)
    assert chain.lane(payer.id, worker.id).exit_at == event.exit_at
    with pytest.raises(TransactionRefused, match="ExitPending"):
        chain.finish_exit(key_of(180), lane, record=outbox.record)
    send(network, "reserve", key_of(180), lane, amount=0, record=outbox.record)
    assert chain.lane(payer.id, worker.id) == Lane(100, 0, None)


def test_tokens_of_the_hot_key_can_be_deposited(network: Network) -> None:
    chain, outbox = network.chain, Outbox()
    payer_with(network, 190, 0)
    hoarder = Party(address_of(key_of(190)), address_of(key_of(190)))
    devnet_deploy.fund(network.rpc, network.deployment, party=hoarder, amount=70, gas_wei=0)
    send(network, "withdraw", key_of(190), hoarder, amount=70, record=outbox.record)
    send(network, "approve", key_of(190), 70, record=outbox.record)
    send(network, "deposit", key_of(190), party_of(190), amount=70, record=outbox.record)
    assert chain.account(party_of(190)).free == 70


def test_a_redemption_costs_no_more_gas_than_was_measured(network: Network) -> None:
    worker, payer = payer_with(network, 201, 0), payer_with(network, 200, 1000)
    send(network, "reserve", key_of(200), (payer, worker.id), amount=900, record=Outbox().record)
    gas: list[int] = []
    for cumulative in (10, 20):
        owed = [voucher(network, 200, worker, cumulative)]
        sent = send(network, "redeem", key_of(201), worker, vouchers=owed, record=Outbox().record)
        gas.append(mined(network, sent).gas_used)
    assert gas[0] < 62_000 and gas[1] < 45_000


def test_another_chain_contract_or_token_is_noticed(network: Network) -> None:
    deployment = network.deployment
    with pytest.raises(WrongChain) as wrong:
        connect(network.rpc, msgspec.structs.replace(deployment, chain_id=5))
    assert (wrong.value.expected, wrong.value.found) == (5, CHAIN_ID)
    with pytest.raises(WrongContract):
        connect(network.rpc, msgspec.structs.replace(deployment, escrow=deployment.token))
    with pytest.raises(WrongContract):
        connect(network.rpc, msgspec.structs.replace(deployment, token="0x" + "12" * 20))
    with pytest.raises(WrongContract):
        connect(network.rpc, msgspec.structs.replace(deployment, escrow="0x" + "12" * 20))


def test_a_node_that_does_not_answer_is_unavailable(network: Network) -> None:
    with pytest.raises(ChainUnavailable):
        connect("http://127.0.0.1:9", network.deployment)


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b"[]", b'{"jsonrpc":"2.0","id":0,"result":"word"}', b""])
def test_a_node_that_answers_nonsense_is_unavailable(network: Network, answer: bytes) -> None:
    with serving(answer) as rpc, pytest.raises(ChainUnavailable):
        connect(rpc, network.deployment)


class Walk:
    """Two payers and a worker (each a payer of itself too) that move money at random, and what should come of it."""

    def __init__(self, network: Network) -> None:
        self._network, self._chain = network, network.chain
        self.keys = [key_of(next(FRESH)) for _ in range(3)]
        self.parties = [Party(address_of(key), address_of(key)) for key in self.keys]
        self.deposited = 0
        self.signed = {party.id: 0 for party in self.parties}
        for party in self.parties:
            self._fund(party, 500)

    def step(self, action: str, who: int, amount: int) -> None:
        key, party, worker = self.keys[who], self.parties[who], self.parties[2]
        match action:
            case "deposit":
                self._fund(party, amount)
            case "reserve":
                amount = min(amount, self._chain.account(party).free)
                send(self._network, "reserve", key, (party, worker.id), amount=amount, record=Outbox().record)
            case "withdraw":
                amount = min(amount, self._chain.account(party).free)
                send(self._network, "withdraw", key, party, amount=amount, record=Outbox().record)
            case "pay out":
                send(self._network, "pay_out", key, worker, record=Outbox().record)
            case "redeem":
                self.signed[party.id] += amount
                owed = sign_voucher(
                    key, self._chain.domain, payer=party, worker=worker.id, cumulative=self.signed[party.id]
                )
                send(self._network, "redeem", self.keys[2], worker, vouchers=[owed], record=Outbox().record)

    def check(self) -> None:
        accounts = [self._chain.account(party) for party in self.parties]
        lanes = [self._chain.lane(party.id, self.parties[2].id) for party in self.parties]
        held = sum(a.free + a.earned for a in accounts) + sum(lane.reserved for lane in lanes)
        outside = sum(self._chain.token_balance(party.owner) for party in self.parties)
        assert held + outside == self.deposited
        for party, lane in zip(self.parties, lanes, strict=True):
            assert lane.redeemed <= self.signed[party.id]

    def _fund(self, party: Party, amount: int) -> None:
        devnet_deploy.fund(self._network.rpc, self._network.deployment, party=party, amount=amount, gas_wei=ETHER)
        self.deposited += amount


STEPS = st.tuples(
    st.sampled_from(["deposit", "reserve", "withdraw", "pay out", "redeem"]), st.integers(0, 2), st.integers(1, 400)
)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=3, max_size=7))
def test_no_walk_makes_or_loses_money(network: Network, steps: list[tuple[str, int, int]]) -> None:
    walk = Walk(network)
    held_before = network.chain.token_balance(network.deployment.escrow) - walk.deposited
    for action, who, amount in steps:
        walk.step(action, who, amount)
    walk.check()
    outside = sum(network.chain.token_balance(party.owner) for party in walk.parties)
    assert network.chain.token_balance(network.deployment.escrow) == held_before + walk.deposited - outside
