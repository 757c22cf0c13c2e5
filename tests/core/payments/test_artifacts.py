"""The committed contract artifacts are what the committed sources compile to."""

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from assets import asset_path

CONTRACTS = asset_path("contracts")
NAMES = ["ComputeEscrow", "TestToken"]


@pytest.mark.parametrize("name", NAMES)
def test_an_artifact_has_all_that_the_application_reads(name: str) -> None:
    artifact = msgspec.json.decode((CONTRACTS / f"{name}.json").read_bytes())
    assert artifact["abi"]
    assert artifact["bytecode"].startswith("0x6")
    assert artifact["deployedBytecode"].startswith("0x6")
    assert artifact["compiler"]["version"].startswith("0.8.37+")


def test_recompiling_gives_the_same_artifacts(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (CONTRACTS / "node_modules" / "solc").is_dir():
        pytest.skip("needs Node.js and `npm ci` in assets/contracts")
    subprocess.run([node, str(CONTRACTS / "compile.js"), "--out", str(tmp_path)], check=True, timeout=120)
    for name in NAMES:
        fresh = msgspec.json.decode((tmp_path / f"{name}.json").read_bytes())
        assert fresh == msgspec.json.decode((CONTRACTS / f"{name}.json").read_bytes())
