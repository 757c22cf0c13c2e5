"""The operator's relay as a process: it says where it is, tells its figures, and stops when it is told."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from p2p.relay_book import RelayLimits
from p2p.relay_node import RelayWords

PROGRAM = """
import sys, trio
from pathlib import Path
from p2p.relay_node import RelayWords, run_relay_node
port = int(sys.argv[2])
trio.run(run_relay_node, RelayWords(Path(sys.argv[1]), "testnet", port=0, listen_ip="127.0.0.1", ws_port=port))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGUSR1")
def test_a_relay_tells_systemd_and_whoever_asks_and_stops_on_a_signal(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(20)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        words = [sys.executable, "-c", PROGRAM, str(tmp_path), port]
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "PYTHONPATH": str(Path(__file__).parents[2])}
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            own, browsers = json.loads(process.stdout.readline())["addresses"]
            assert "/ws" not in own
            assert f"/tcp/{port}/ws/" in browsers
            assert notified.recv(100) == b"READY=1"
            process.send_signal(signal.SIGUSR1)
            figures = json.loads(process.stdout.readline())
            assert (figures["peers"], figures["reservations"], figures["circuits"]) == (0, 0, 0)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert notified.recv(100) == b"STOPPING=1"


def test_a_relay_of_an_operator_carries_more_than_one_by_default() -> None:
    words = RelayWords(Path("/nowhere"), "testnet", port=0)
    assert words.limits.reservations > RelayLimits().reservations
