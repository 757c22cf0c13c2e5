"""Strangers speak our protocols from the document alone: a js-libp2p peer buys from us, and sells to us."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.devnet import Devnet
from app.payer import fund_devnet
from core.network import Network
from core.payments.voucher import Party, address_of
from tests.e2e.conftest import Peer, ask
from tests.js_peer import JsMissing, JsPeer, find_or_install
from tests.protocol.vectors import FOLDER

pytestmark = pytest.mark.e2e

OWNER = "0x" + "51" * 20
FUNDS = 5_000_000
WORDS = [f"word{number}" for number in range(40)]


@pytest.fixture(scope="session")
def js() -> JsPeer:
    try:
        return find_or_install()
    except JsMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def network(devnet: Devnet) -> Network:
    assert devnet.network is not None
    return devnet.network


@pytest.fixture
def hot_key(network: Network) -> bytes:
    """Of a wallet that one js program uses once, with money in the escrow and ether for a transaction."""
    key = secrets.token_bytes(32)
    fund_devnet(network, Party(OWNER, address_of(key)), amount=FUNDS)
    return key


def bought(
    js: JsPeer, address: str, *, network: Network, hot_key: bytes, break_after: int = 0
) -> dict[str, dict[str, Any]]:
    """All that the js requester tells of one job, by the event's name."""
    given = {
        "break_after": break_after,
        "address": address,
        "network": {"chain_id": network.chain_id, "escrow": network.escrow, "rpc": network.rpc},
        "swarm": network.swarm_id,
        "payer": {"owner": OWNER, "hot": address_of(hot_key)},
        "hot_key": "0x" + hot_key.hex(),
        "model": "starling-demo",
        "prompt": "Count from 1 to 30.",
        "max_tokens": 96,
        "collateral": 1_000_000,
    }
    events: dict[str, dict[str, Any]] = {}
    with js.start("requester.mjs", json.dumps(given)) as requester:
        while "finished" not in events:
            said = requester.line()
            events[said["event"]] = said
            assert said["event"] != "refused", said
    return events


def is_bought_whole(events: dict[str, dict[str, Any]], peer: Peer) -> bool:
    last = events["finished"]
    jobs = {job.terms.job_id: job for job in peer.wait(lambda state: not state.jobs, timeout_s=30).ended}
    job = jobs[last["job_id"]]
    assert (str(job.amount), str(job.vouchered)) == (last["amount"], last["paid"])
    return bool(
        events["offers"]["believed"] >= 1
        and last["is_whole"]
        and last["text"].startswith("1")
        and last["usage"]["completion_tokens"] > 30
        and last["chunks"] >= 3
        and int(last["paid"]) >= int(last["amount"]) > 0
        and job.state == "finished"
    )


def test_a_js_peer_writes_reads_signs_and_refuses_what_the_golden_vectors_say(js: JsPeer) -> None:
    with js.start("vectors.mjs", str(FOLDER)) as program:
        told = program.line()
    assert told["failed"] == []
    assert told["checked"] > 200


def test_a_js_peer_pulls_offers_and_buys_an_answer_with_vouchers(
    js: JsPeer, peer: Peer, network: Network, hot_key: bytes
) -> None:
    address = next(address for address in peer.state().addresses if "/ws" not in address)
    assert is_bought_whole(bought(js, address, network=network, hot_key=hot_key), peer)


def test_a_js_peer_whose_line_breaks_gets_the_rest(js: JsPeer, peer: Peer, network: Network, hot_key: bytes) -> None:
    address = next(address for address in peer.state().addresses if "/ws" not in address)
    events = bought(js, address, network=network, hot_key=hot_key, break_after=2)
    assert events["resumed"]["seq"] == 2
    assert is_bought_whole(events, peer)


def test_a_js_peer_buys_over_a_websocket_too(js: JsPeer, peer: Peer, network: Network, hot_key: bytes) -> None:
    address = next(address for address in peer.state().addresses if "/ws" in address)
    assert is_bought_whole(bought(js, address, network=network, hot_key=hot_key), peer)


@pytest.fixture
def js_provider(js: JsPeer, network: Network) -> Iterator[Any]:
    given = {
        "tell": network.bootstrap[0],
        "network": {"chain_id": network.chain_id, "escrow": network.escrow},
        "swarm": network.swarm_id,
        "worker": {"owner": OWNER, "hot": "0x" + "52" * 20},
        "model": "made-in-js",
        "words": WORDS,
    }
    with js.start("provider.mjs", json.dumps(given)) as provider:
        assert provider.line()["told"] == "pong"
        yield provider


def test_a_js_peer_sells_an_answer_to_our_requester(devnet: Devnet, js_provider: Any, tmp_path: Path) -> None:
    for _ in range(2):  # a second job goes on from the first one's last voucher
        answer = ask(tmp_path / "r", devnet, "made-in-js")
        assert (answer["state"], answer["text"]) == ("finished", " ".join(WORDS)), answer
        events = [js_provider.line()]
        while events[-1]["event"] == "paid":
            events.append(js_provider.line())
        assert events[-1]["event"] == "sold", events
        assert int(events[-1]["paid"]) >= int(events[-1]["amount"]) > 0
        assert str(answer["amount"]) == events[-1]["amount"]
