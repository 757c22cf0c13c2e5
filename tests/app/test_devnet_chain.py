"""Laws of the development chain: as a process, and method by method over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from app.devnet_evm import Call, EvmChain, WrongChainId
from app.devnet_methods import Methods
from app.devnet_rpc import RpcServer
from app.devnet_store import ChainInUse

CHAIN_ID = 31337
WAIT_S = 30
SOMEONE = "0x" + "5e" * 20


class Node:
    """Asks one server."""

    def __init__(self, rpc: str) -> None:
        self.rpc = rpc

    def post(self, body: object, **headers: str) -> Any:
        raw = json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.rpc, raw, headers), timeout=WAIT_S) as reply:
            return json.loads(reply.read())

    def ask(self, method: str, *params: object) -> Any:
        answer = self.post({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
        assert answer["id"] == 7
        return answer.get("result", answer.get("error"))


class Process:
    """The chain as a process of its own."""

    def __init__(self, home: Path, *options: str) -> None:
        words = [sys.executable, "-m", "app.devnet_chain", "--home", str(home), "--backend", "py-evm", *options]
        self.child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        self.ready = json.loads(line) if line else {}

    def end(self) -> tuple[int, str]:
        _, errors = self.child.communicate(timeout=WAIT_S)
        return self.child.returncode, errors.decode()


@pytest.fixture
def chain(tmp_path: Path) -> EvmChain:
    return EvmChain(tmp_path / "chain.sqlite", CHAIN_ID)


@pytest.fixture
def node(chain: EvmChain) -> Iterator[Node]:
    server = RpcServer(Methods(chain), 0)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield Node(server.url)
    server.shutdown()
    server.server_close()


def payment(chain: EvmChain, nonce: int, *, value: int = 1, fee: int = 10**10) -> str:
    """A raw transaction of the first account to SOMEONE."""
    call = Call(chain.accounts[0], bytes.fromhex(SOMEONE[2:]), value=value, gas=21_000)
    return "0x" + chain.sign(call, nonce=nonce, max_fee=fee).encode().hex()


# ---- as a process --------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_a_kill_at_any_time_keeps_every_mined_block(tmp_path: Path) -> None:
    first = Process(tmp_path)
    assert (first.ready["chain_id"], first.ready["backend"]) == (CHAIN_ID, "py-evm")
    node = Node(first.ready["rpc"])
    sender = node.ask("eth_accounts")[0]
    sent = [node.ask("eth_sendTransaction", {"from": sender, "to": SOMEONE, "value": "0x5"}) for _ in range(3)]
    head = node.ask("eth_getBlockByNumber", "latest", False)
    os.kill(first.child.pid, signal.SIGKILL)
    first.end()
    second = Process(tmp_path)
    node = Node(second.ready["rpc"])
    assert node.ask("eth_getBlockByNumber", head["number"], False) == head
    assert node.ask("eth_getBalance", SOMEONE) == "0xf"
    assert all(node.ask("eth_getTransactionReceipt", one)["status"] == "0x1" for one in sent)
    assert node.ask("eth_sendTransaction", {"from": sender, "to": SOMEONE, "value": "0x1"})
    second.child.terminate()
    assert second.end()[0] == 0


@pytest.mark.e2e
def test_the_chain_ends_with_the_pipe_to_its_stdin(tmp_path: Path) -> None:
    process = Process(tmp_path)
    assert process.end() == (0, "")


@pytest.mark.e2e
def test_a_used_port_and_a_used_home_are_one_sentence_each(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, errors = Process(tmp_path / "a", "--port", port).end()
    assert (code, errors) == (1, f"The development chain could not start: port {port} is in use.\n")
    running = Process(tmp_path / "b")
    code, errors = Process(tmp_path / "b").end()
    assert (code, errors) == (1, f"The development chain in {tmp_path / 'b'} is already running.\n")
    assert running.end()[0] == 0


# ---- in this process -----------------------------------------------------------------------------------------


def test_a_chain_is_the_same_when_opened_again(tmp_path: Path, chain: EvmChain) -> None:
    Methods(chain).call("eth_sendRawTransaction", [payment(chain, 0)])
    block, state = chain.store.block(1), chain.state_at(1).get_balance(bytes.fromhex(SOMEONE[2:]))
    with pytest.raises(ChainInUse):
        EvmChain(tmp_path / "chain.sqlite", CHAIN_ID)
    chain.store.close()
    with pytest.raises(WrongChainId):
        EvmChain(tmp_path / "chain.sqlite", 5)
    again = EvmChain(tmp_path / "chain.sqlite", CHAIN_ID)
    assert (again.height, again.store.block(1)) == (1, block)
    assert again.state_at(1).get_balance(bytes.fromhex(SOMEONE[2:])) == state == 1


def test_later_nonces_wait_for_earlier_ones_and_are_mined_in_order(chain: EvmChain, node: Node) -> None:
    second, third = (node.ask("eth_sendRawTransaction", payment(chain, nonce)) for nonce in (1, 2))
    sender = node.ask("eth_accounts")[0]
    assert node.ask("eth_blockNumber") == "0x0"
    assert node.ask("eth_getTransactionReceipt", second) is None
    assert node.ask("eth_getTransactionByHash", second)["blockNumber"] is None
    assert node.ask("eth_getTransactionCount", sender, "pending") == "0x0"
    first = node.ask("eth_sendRawTransaction", payment(chain, 0))
    blocks = [node.ask("eth_getTransactionReceipt", one)["blockNumber"] for one in (first, second, third)]
    assert blocks == ["0x1", "0x2", "0x3"]
    assert node.ask("eth_getTransactionCount", sender, "pending") == "0x3"


def test_a_waiting_transaction_is_replaced_only_by_a_dearer_one(chain: EvmChain, node: Node) -> None:
    first = payment(chain, 1, fee=10**10)
    node.ask("eth_sendRawTransaction", first)
    assert "already known" in node.ask("eth_sendRawTransaction", first)["message"]
    cheap = node.ask("eth_sendRawTransaction", payment(chain, 1, fee=10**10 + 1))
    assert "underpriced" in cheap["message"]
    dear = node.ask("eth_sendRawTransaction", payment(chain, 1, value=9, fee=2 * 10**10))
    node.ask("eth_sendRawTransaction", payment(chain, 0, value=1))
    assert node.ask("eth_getTransactionReceipt", dear)["status"] == "0x1"
    assert node.ask("eth_getBalance", SOMEONE) == "0xa"


def test_refused_transactions_change_nothing(chain: EvmChain, node: Node) -> None:
    sent = payment(chain, 0)
    node.ask("eth_sendRawTransaction", sent)
    assert "already known" in node.ask("eth_sendRawTransaction", sent)["message"]
    assert "nonce too low" in node.ask("eth_sendRawTransaction", payment(chain, 0, value=2))["message"]
    assert "not a transaction" in node.ask("eth_sendRawTransaction", "0x02ff")["message"]
    assert node.ask("eth_sendRawTransaction", payment(chain, 1, value=10**40))["code"] < 0
    assert node.ask("eth_sendTransaction", {"from": SOMEONE, "to": SOMEONE})["code"] < 0
    assert node.ask("eth_blockNumber") == "0x1"
    assert node.ask("eth_sendRawTransaction", payment(chain, 1)).startswith("0x")


def test_state_of_the_past_can_be_asked(chain: EvmChain, node: Node) -> None:
    for nonce in range(3):
        node.ask("eth_sendRawTransaction", payment(chain, nonce))
    balances = [node.ask("eth_getBalance", SOMEONE, hex(height)) for height in range(4)]
    assert balances == ["0x0", "0x1", "0x2", "0x3"]
    assert node.ask("eth_getBalance", SOMEONE, "0x9")["code"] < 0


def test_empty_blocks_come_on_demand_and_confirm_up_to_a_depth(chain: EvmChain) -> None:
    methods = Methods(chain)
    methods.confirm(3)
    methods.call("eth_sendRawTransaction", [payment(chain, 0)])
    start = chain.height
    for _ in range(9):
        methods.confirm(3)
    assert chain.height == start + 2
    methods.call("evm_mine", [])
    assert chain.height == start + 3
    times = [int(block.body["timestamp"], 16) for n in range(chain.height + 1) if (block := chain.store.block(n))]
    assert times == sorted(set(times))


def test_time_can_be_moved_forward(node: Node) -> None:
    before = int(node.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    node.ask("evm_increaseTime", 1000)
    node.ask("evm_mine")
    assert int(node.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16) >= before + 1000


def test_nonsense_is_answered_in_json_rpc(node: Node) -> None:
    assert node.ask("eth_nothing")["code"] == -32601
    assert node.ask("eth_getBalance")["code"] == -32602
    assert node.ask("eth_getBalance", "0x12")["code"] == -32602
    assert node.post([])["error"]["code"] == -32600
    assert node.post("hello")["error"]["code"] == -32600
    batch = node.post([{"id": n, "method": "eth_chainId"} for n in range(3)])
    assert [(one["id"], one["result"]) for one in batch] == [(n, "0x7a69") for n in range(3)]


def test_a_web_page_is_turned_away(node: Node) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        node.post({"id": 1, "method": "eth_accounts"}, Origin="http://evil.example")
    assert refused.value.code == 403


def test_it_answers_what_wallets_ask_first(node: Node) -> None:
    assert node.ask("net_version") == "31337"
    assert node.ask("eth_chainId") == "0x7a69"
    assert int(node.ask("eth_gasPrice"), 16) > 0
    history = node.ask("eth_feeHistory", "0x2", "latest", [50])
    assert (len(history["baseFeePerGas"]), history["oldestBlock"]) == (2, "0x0")
    assert node.ask("eth_getCode", SOMEONE) == "0x"
    assert node.ask("eth_getStorageAt", SOMEONE, "0x0") == "0x" + "0" * 64
    genesis = node.ask("eth_getBlockByNumber", "0x0", False)
    assert node.ask("eth_getBlockByHash", genesis["hash"], True) == genesis
    assert node.ask("eth_getBlockByNumber", "0x99", False) is None
    assert int(node.ask("eth_estimateGas", {"to": SOMEONE}), 16) >= 21_000
