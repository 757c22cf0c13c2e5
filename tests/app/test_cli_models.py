"""`starling models` as its owner uses it: real processes, real children, a tiny model, no engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.hub import open_hub_server
from tests.models import write_tiny_gguf

ROOT = Path(__file__).resolve().parents[2]
SLOW = "IQ4_XS"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Large enough that quantizing it to a slow type takes seconds."""
    yield write_tiny_gguf(tmp_path_factory.mktemp("models") / "slow.gguf", hidden=1024, layers=4)


def words_of(home: Path, words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "app", "models", *words, "--home", str(home)]


def models(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words_of(home, words), cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    """In a process group of its own, so that Ctrl-C can be for it and its children alone."""
    command, pipe = words_of(home, words), subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def files(home: Path) -> set[str]:
    return {path.relative_to(home / "models").as_posix() for path in (home / "models").rglob("*") if path.is_file()}


def listed(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(models(home, "list", "--json").stdout)
    return found


def wait_for(found: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def begun(home: Path) -> Callable[[], bool]:
    """Quantizing has begun to write."""
    return lambda: any(path.stat().st_size for path in (home / "models").rglob("*.gguf.part"))


def test_add_quantize_list_and_remove(tmp_path: Path, model: Path) -> None:
    assert models(tmp_path, "add", str(model), "--name", "mine").returncode == 0
    made = models(tmp_path, "quantize", "mine", "q8_0", "--json")
    assert made.returncode == 0 and json.loads(made.stdout)["done"] is True
    shelf = listed(tmp_path)
    assert [v["quantization"] for v in shelf["models"][0]["variants"]] == ["F16", "Q8_0"]
    assert shelf["total_bytes"] == sum(v["file_bytes"] for v in shelf["models"][0]["variants"])
    assert [(d["model"], d["quantization"]) for d in shelf["drop_order"]] == [("mine", "Q8_0")]
    text = models(tmp_path, "list").stdout
    assert "LAST USED" in text and "no cap is set" in text and "never" in text
    assert models(tmp_path, "remove", "mine", "Q8_0").returncode == 0
    assert files(tmp_path) == {"index.json", "mine/F16.gguf"}
    assert models(tmp_path, "remove", "mine").returncode == 0
    assert files(tmp_path) == {"index.json"}


def test_verify_names_the_file_that_is_damaged_and_ends_with_one(tmp_path: Path, model: Path) -> None:
    models(tmp_path, "add", str(model), "--name", "mine")
    models(tmp_path, "quantize", "mine", "Q8_0")
    whole = models(tmp_path, "verify")
    assert whole.returncode == 0 and "All 2 files are what they were." in whole.stderr
    path = tmp_path / "models" / "mine" / "Q8_0.gguf"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = models(tmp_path, "verify", "mine", "--json")
    assert found.returncode == 1
    assert "Q8_0.gguf of mine is damaged. `starling models quantize mine Q8_0` makes it again" in found.stderr
    told = json.loads(found.stdout)
    assert told["done"] is False and [v["damaged"] for v in told["models"][0]["variants"]] == [[], ["Q8_0.gguf"]]
    assert "damaged" in models(tmp_path, "list").stdout
    assert models(tmp_path, "quantize", "mine", "Q8_0").returncode == 0
    assert models(tmp_path, "verify", "mine").returncode == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("verify", "none"), "There is no model none here."),
        (("quantize", "none", "Q8_0"), "There is no model none here."),
        (("remove", "none"), "There is no model none here."),
        (("install", "nonsense"), "names no model of a hub"),
        (("serve", "none"), "No engine runs"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    done = models(tmp_path, *words)
    assert done.returncode == 1 and sentence in done.stderr and "Traceback" not in done.stderr


def test_install_through_the_command_line(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with open_hub_server() as hub:
        hub.repos["a/b"] = {"b-F16.gguf": model.read_bytes(), "b-Q8_0.gguf": b"GGUF"}
        (tmp_path / "settings.toml").write_text(f'hub_endpoint = "{hub.endpoint}"\n')
        which = models(tmp_path, "install", "a/b")
        done = models(tmp_path, "install", "a/b:F16", "--name", "mine", "--json")
    assert which.returncode == 1 and "several models: F16, Q8_0. Say which, as a/b:F16" in which.stderr
    assert done.returncode == 0 and "Fetching b-F16.gguf" in done.stderr
    assert [card["origin"] for card in json.loads(done.stdout)["models"]] == ["a/b:b-F16.gguf"]
    gone = models(tmp_path, "install", "a/c")
    assert gone.returncode == 1 and "cannot be reached" in gone.stderr and "Traceback" not in gone.stderr


def test_the_settings_cap_the_store(tmp_path: Path, model: Path) -> None:
    cap_gb = model.stat().st_size * 1.7 / 1e9
    (tmp_path / "settings.toml").write_text(f"storage_cap_gb = {cap_gb}\n")
    models(tmp_path, "add", str(model), "--name", "mine")
    models(tmp_path, "quantize", "mine", "Q8_0")
    made = models(tmp_path, "quantize", "mine", "Q4_0")
    assert made.returncode == 0 and "Making room: mine Q8_0" in made.stderr
    assert files(tmp_path) == {"index.json", "mine/F16.gguf", "mine/Q4_0.gguf"}
    assert listed(tmp_path)["cap_bytes"] == int(cap_gb * 1e9)


def test_ctrl_c_leaves_nothing_half_done_and_no_child(tmp_path: Path, slow_model: Path) -> None:
    models(tmp_path, "add", str(slow_model), "--name", "slow")
    process = start(tmp_path, "quantize", "slow", SLOW)
    wait_for(begun(tmp_path))
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Nothing half done is left" in said and "Traceback" not in said
    assert files(tmp_path) - {"index.json"} == {"slow/F16.gguf"}
    assert children and not psutil.wait_procs(children, timeout=5)[1]


def test_a_killed_program_leaves_no_half_file_under_a_model_s_name(tmp_path: Path, slow_model: Path) -> None:
    models(tmp_path, "add", str(slow_model), "--name", "slow")
    process = start(tmp_path, "quantize", "slow", SLOW)
    wait_for(begun(tmp_path))
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=30)
    assert children and not psutil.wait_procs(children, timeout=5)[1]
    assert f"slow/{SLOW}.gguf" not in files(tmp_path)
    assert [v["quantization"] for v in listed(tmp_path)["models"][0]["variants"]] == ["F16"]
    assert models(tmp_path, "quantize", "slow", "Q8_0").returncode == 0
    assert files(tmp_path) == {"index.json", "slow/F16.gguf", "slow/Q8_0.gguf"}


def test_a_program_killed_at_any_moment_leaves_whole_models_or_none(tmp_path: Path, slow_model: Path) -> None:
    for delay_s in (0.9, 1.2, 1.5, 1.8, 2.1, 2.4):
        process = start(tmp_path, "add", str(slow_model), "--name", "slow")
        time.sleep(delay_s)
        process.kill()
        process.communicate(timeout=30)
        assert models(tmp_path, "verify").returncode == 0
    assert models(tmp_path, "add", str(slow_model), "--name", "slow").returncode == 0
    assert files(tmp_path) == {"index.json", "slow/F16.gguf"}


def test_a_killed_child_is_one_sentence_and_leaves_no_half_file(tmp_path: Path, slow_model: Path) -> None:
    models(tmp_path, "add", str(slow_model), "--name", "slow")
    process = start(tmp_path, "quantize", "slow", SLOW)
    wait_for(begun(tmp_path))
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1 and "The worker died" in said and "Traceback" not in said
    assert files(tmp_path) - {"index.json"} == {"slow/F16.gguf"}
