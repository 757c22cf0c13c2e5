"""`starling network deploy` on a real EVM: the right chain or nothing, and never a second escrow after a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Event, Thread

import msgspec
import pytest
from eth_keyfile.keyfile import create_keyfile_json

from app.__main__ import main
from app.cli_deploy import DeployFile
from app.devnet_chain import Ready, Request, run
from core.network import load_network
from core.payments import deployment
from core.payments.chain import EscrowChain
from core.payments.chain_values import ChainUnavailable
from core.payments.deployment import Deploying, DeployPlan
from core.payments.devnet_deploy import _Node
from core.payments.voucher import address_of
from core.trouble import Trouble

CHAIN_ID = 31_337
KEY = bytes(range(1, 33))
ETHER = 10**18


@pytest.fixture(scope="module")
def rpc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    stop, ready = Event(), Queue[Ready]()
    asked = Request(tmp_path_factory.mktemp("chain"), 0, CHAIN_ID, "py-evm", block_time_s=0.0)
    server = Thread(target=run, args=(asked, stop), kwargs={"announce": ready.put}, daemon=True)
    server.start()
    url = ready.get(timeout=20).rpc
    _Node(url).send({"to": address_of(KEY), "value": hex(100 * ETHER)})
    yield url
    stop.set()
    server.join(10)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "POLL_S", 0.02)


def key_file(folder: Path, text: str = "0x" + KEY.hex(), *, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_text(text)
    path.chmod(mode)
    return path


def said(home: Path, rpc: str, key: Path, *more: str, chain_id: int = CHAIN_ID) -> int:
    words = ["network", "deploy", "ours", "--rpc", rpc, "--chain-id", str(chain_id), "--key-file", str(key)]
    return main([*words, "--home", str(home), *more])


def test_it_deploys_writes_the_network_file_and_the_escrow_answers(
    tmp_path: Path, rpc: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(tmp_path, rpc, key_file(tmp_path), "--yes", "--json", "--confirmations", "3") == 0
    told = json.loads(capsys.readouterr().out)
    network = load_network((tmp_path / "networks" / "ours.toml").read_bytes(), source="ours")
    assert (network.escrow, network.confirmations, network.chain_id) == (told["escrow"], 3, CHAIN_ID)
    assert EscrowChain.connect(
        rpc, chain_id=CHAIN_ID, escrow=network.escrow, token=network.token, timeout_s=5
    ).block_number()
    assert not list((tmp_path / "networks").glob("*.deploying.json"))
    assert KEY.hex() not in "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file() and p.name != "key")


def test_another_chain_than_the_named_one_is_refused_before_anything_is_signed(
    tmp_path: Path, rpc: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(tmp_path, rpc, key_file(tmp_path), "--yes", chain_id=1) == 1
    assert "is on chain 31337" in capsys.readouterr().err
    assert not (tmp_path / "networks").exists()


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [("0x12", 0o600, "64 hex"), ("0x" + KEY.hex(), 0o644, "chmod 600"), ("{}", 0o600, "wrong")],
)
def test_a_key_file_that_will_not_do_is_named(
    tmp_path: Path, rpc: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *,
    text: str, mode: int, reason: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("getpass.getpass", lambda _: "secret")
    assert said(tmp_path, rpc, key_file(tmp_path, text, mode=mode), "--yes") == 1
    assert reason in capsys.readouterr().err


def test_a_keystore_opens_with_its_passphrase(tmp_path: Path, rpc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = msgspec.json.encode(create_keyfile_json(KEY, b"secret", iterations=1_000)).decode()
    monkeypatch.setattr("getpass.getpass", lambda _: "secret")
    assert said(tmp_path, rpc, key_file(tmp_path, sealed), "--yes") == 0


def test_a_key_without_money_and_a_wrong_exit_delay_send_nothing(
    tmp_path: Path, rpc: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(tmp_path, rpc, key_file(tmp_path, "11" * 32), "--yes") == 1
    assert "has less" in capsys.readouterr().err
    assert said(tmp_path, rpc, key_file(tmp_path), "--yes", "--exit-delay", "86400") == 1
    assert "5 to 60" in capsys.readouterr().err


def test_nobody_to_ask_is_no_yes(tmp_path: Path, rpc: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(tmp_path, rpc, key_file(tmp_path)) == 1
    told = capsys.readouterr().err
    assert "--yes" in told
    assert "pays at most" in told


def test_a_run_after_a_crash_waits_for_the_first_ones_contracts(tmp_path: Path, rpc: str) -> None:
    plan = DeployPlan(CHAIN_ID, 60)
    path = tmp_path / "d.json"
    before = _Node(rpc).ask("eth_getTransactionCount", address_of(KEY), "latest")

    class Cut(DeployFile):
        """A power cut right after the escrow's transaction was written down."""

        def keep(self, contract: str, raw: bytes) -> None:
            super().keep(contract, raw)
            if contract == "ComputeEscrow":
                raise ChainUnavailable("cut")

    with pytest.raises(ChainUnavailable):
        Deploying(rpc, plan).run(KEY, Cut(path, plan=plan))
    made = Deploying(rpc, plan).run(KEY, DeployFile(path, plan=plan))
    assert Deploying(rpc, plan).run(KEY, DeployFile(path, plan=plan)) == made
    after = _Node(rpc).ask("eth_getTransactionCount", address_of(KEY), "latest")
    assert int(after, 16) - int(before, 16) == 2
    with pytest.raises(Trouble, match="another deployment"):
        DeployFile(path, plan=DeployPlan(CHAIN_ID, 30))


def test_a_token_that_is_there_is_used_and_named_by_its_own_words(tmp_path: Path, rpc: str) -> None:
    first = Deploying(rpc, DeployPlan(CHAIN_ID, 60)).run(KEY, DeployFile(tmp_path / "a", plan=DeployPlan(CHAIN_ID, 60)))
    plan = DeployPlan(CHAIN_ID, 60, first.token)
    made = Deploying(rpc, plan).run(KEY, DeployFile(tmp_path / "b", plan=plan))
    assert (made.token, made.decimals) == (first.token, first.decimals)
    assert made.escrow != first.escrow
