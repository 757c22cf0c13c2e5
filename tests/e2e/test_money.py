"""The main job, as a user sees it: jobs of all classes served, and the chain agrees to the unit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from eth_hash.auto import keccak

from core.payments.voucher import Party

pytestmark = pytest.mark.e2e


def rpc(url: str, method: str, *params: Any) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())["result"]


def test_the_demo_serves_every_class_and_the_escrow_holds_what_is_printed(tmp_path: Path) -> None:
    words = [sys.executable, "-P", "-m", "app", "demo", "--headless", "--jobs", "12", "--json", "--hold"]
    log = tmp_path / "demo.log"
    with log.open("wb") as stderr:
        demo = subprocess.Popen([*words, "--home", str(tmp_path / "d")], stdout=subprocess.PIPE, stderr=stderr)
        try:
            assert demo.stdout is not None
            result = json.loads(demo.stdout.readline() or f'"{log.read_text()[-300:]}"')
            assert result["jobs"]["finished"] == 12
            assert result["jobs"]["failed"] == 0
            assert result["jobs"]["by_class"] == {"interactive": 4, "standard": 4, "batch": 4}
            assert earned_on_chain(result) == int(result["earnings"]["withdrawable"]) > 0
            assert [result["earnings"][name] for name in ("accruing", "earned", "settling", "paid")] == ["0"] * 4
            for transaction in result["chain"]["redeem_transactions"]:
                assert rpc(result["chain"]["rpc"], "eth_getTransactionReceipt", transaction)["status"] == "0x1"
        finally:
            demo.send_signal(signal.SIGINT)
            assert demo.wait(60) == 0


def earned_on_chain(result: dict[str, Any]) -> int:
    """accounts(bytes32) of the escrow: free, earned, nonce."""
    worker = Party(result["worker"]["owner"], result["worker"]["hot"])
    call = {"to": result["chain"]["escrow"], "data": "0x" + keccak(b"accounts(bytes32)")[:4].hex() + worker.id[2:]}
    answer = rpc(result["chain"]["rpc"], "eth_call", call, "latest")
    return int(answer[2 + 64 : 2 + 128], 16)
