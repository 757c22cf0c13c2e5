"""`starling plan` as a new user meets it: described computers, models by size, plans kept and let go, no engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from app.__main__ import main
from core.home import Home
from core.journal import Journal
from core.metamodel.shapes import shape_card
from core.store import Store

ROOT = Path(__file__).resolve().parents[2]
EIGHT = ["plan", "--shape", "8b", "--device"]


def ask(capsys: pytest.CaptureFixture[str], home: Path, *words: str) -> tuple[int, str, str]:
    code = main([*words, "--home", str(home)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("device", ["gpu-8gb", "gpu-24gb"])
def test_a_described_computer_gets_a_table_a_reason_and_what_would_change_it(
    device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ask(capsys, tmp_path, *EIGHT, device)
    assert (code, err) == (0, "")
    for words in ("How to serve", "chosen", "Why", "8 of 10 runs", "requesters are told", "Measured"):
        assert words in " ".join(out.split())
    assert "What would change this" in out and "!" not in out
    assert not (tmp_path / "starling.db").exists()


def test_columns_stand_under_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ask(capsys, tmp_path, *EIGHT, "gpu-24gb")
    _, head, *rows = out.split("\n\n")[1].splitlines()
    end = head.index("GiB") + len("GiB")
    assert len(rows) == 10 and all(row[end - 1].isdigit() and row[end] == " " for row in rows)


def test_no_line_is_wider_than_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in (["gpu-8gb"], ["gpu-24gb", "--all"]):
        _, out, _ = ask(capsys, tmp_path, *EIGHT, *words)
        assert max(len(line) for line in out.splitlines()) <= 79


def test_the_next_best_is_another_type_with_the_percentage_of_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = ask(capsys, tmp_path, *EIGHT, "gpu-8gb")
    found = re.search(r"next best is number (\d+), (\w+), expected to earn (\d+) % less", " ".join(out.split()))
    assert found
    number, name, less = found.groups()
    row = next(line.split() for line in out.splitlines() if line.split()[:2] == [number, name])
    assert f"{100 - int(less)} %" in " ".join(row) and f"1 {name}" not in out


def test_what_is_too_slow_is_told_with_its_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ask(capsys, tmp_path, *EIGHT, "gpu-8gb")
    assert re.search(r"pauses of [\d.]+( to [\d.]+)? s; jobs accept 0.5 s", out)
    assert "a loss" in out and "loses  " not in out


def test_json_says_the_same_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ask(capsys, tmp_path, *EIGHT, "gpu-8gb", "--json")
    short = json.loads(out)
    found = json.loads(ask(capsys, tmp_path, *EIGHT, "gpu-8gb", "--json", "--all")[1])
    assert found["candidates"] == len(found["ranked"]) <= 1000
    assert len(short["ranked"]) <= 10 and all(row in found["ranked"] for row in short["ranked"])
    assert found["chosen"]["estimate"]["reward_smallest_units_per_hour"] > 0
    assert found["chosen"] == found["ranked"][0] and found["reason"].endswith(".")
    assert {"plan", "estimate", "verdict", "number"} <= set(found["chosen"])


def test_premium_quality_is_asked_for_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ask(capsys, tmp_path, *EIGHT, "gpu-24gb", "--quality", "premium", "--json")
    assert json.loads(out)["chosen"]["estimate"]["kl_divergence_nats"] <= 0.006


def test_a_model_that_fits_nowhere_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, tmp_path, "plan", "--shape", "70b", "--device", "gpu-8gb")
    assert code == 1 and "GiB of GPU memory are missing" in out


def test_a_card_in_a_file_is_planned_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "card.json"
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(shape_card("3b"), title="My model")))
    code, out, _ = ask(capsys, tmp_path, "plan", str(file), "--device", "gpu-8gb")
    assert code == 0 and "How to serve My model" in out
    file.write_text("{}")
    code, _, err = ask(capsys, tmp_path, "plan", str(file), "--device", "gpu-8gb")
    assert code == 1 and "is not a model card" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan"], "There is no model here yet"),
        (["plan", "nothing"], "There is no model nothing here"),
        (["plan", "--shape", "8b", "--device", "nowhere.json"], "There is no file nowhere.json that describes"),
        (["plan", "--shape", "8b", "--device", "gpu-8gb", "--pin"], "A size is not a model: add a model with"),
        (["plan", "some", "--device", "gpu-8gb", "--pin"], "Leave --device out"),
        (["plan", "--shape", "8b", "--device", "gpu-8gb", "--picture", "x.gif"], "neither in .svg nor in .png"),
    ],
    ids=["no model", "an unknown one", "no file", "a pin of a size", "a pin elsewhere", "another picture"],
)
def test_what_makes_no_sense_is_one_sentence(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = ask(capsys, tmp_path, *words)
    assert code == 1 and said in err


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_picture_is_written_by_the_same_word(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"seen.{ending}"
    words = [sys.executable, "-m", "app", *EIGHT, "gpu-8gb", "--picture", str(file), "--home", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert file.read_bytes().startswith({"svg": b"<svg ", "png": b"\x89PNG"}[ending])


def test_a_plan_is_kept_and_let_go_without_an_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = ROOT / "assets" / "demo_model" / "starling-demo-f16.gguf"
    assert ask(capsys, tmp_path, "models", "add", str(demo), "--name", "demo")[0] == 0
    listed = json.loads(ask(capsys, tmp_path, "plan", "demo", "--json", "--all")[1])
    code, _, err = ask(capsys, tmp_path, "plan", "demo", "--pin", "2")
    assert code == 0 and "is kept for" in err and "Number 2: " in err and "starling plan demo --unpin" in err
    assert pinned(tmp_path) == [listed["ranked"][1]["plan"]["quantization"]]
    out = " ".join(ask(capsys, tmp_path, "plan", "demo")[1].split())
    assert re.search(r"free\) Kept number 2, .* tok/s for one job, at least", out)
    assert "would be chosen if you kept none" in out and "`starling plan demo --unpin` ends that" in out
    code, out, _ = ask(capsys, tmp_path, "plan", "demo", "--json", "--pin", "2")
    assert code == 0 and json.loads(out)["pinned"] == listed["ranked"][1]["plan"]
    assert ask(capsys, tmp_path, "plan", "demo", "--unpin")[0] == 0
    assert pinned(tmp_path) == []
    code, _, err = ask(capsys, tmp_path, "plan", "demo", "--unpin")
    assert code == 1 and "No plan is kept for demo" in err


def test_the_engine_is_built_without_lightgbm() -> None:
    lines = "import sys, app.node, app.headless; sys.exit('lightgbm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", lines], cwd=ROOT, check=False, timeout=120).returncode == 0


def pinned(home: Path) -> list[str]:
    store = Store(Home(home).database)
    try:
        return [plan.quantization for plan in Journal(store).state.pins.values()]
    finally:
        store.close()


def test_a_model_and_a_size_are_not_asked_for_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capsys, tmp_path, "plan", "demo", "--shape", "8b")
    assert (code, out, err) == (2, "", "Give a model or --shape, not both.\n")


def test_what_would_only_cost_money_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "slow.json"
    box = {"name": "Box", "kind": "cpu", "memory_gib": 64, "bandwidth_gbs": 25, "matrix_tflops": 0.3, "power_w": 120}
    file.write_text(json.dumps(box))
    _, out, _ = ask(capsys, tmp_path, "plan", "--shape", "32b", "--device", str(file))
    assert "Serving this model here would cost you money; pick a smaller one." in " ".join(out.split())
    assert " 0 " not in out and "earns most" not in out


def test_what_cannot_be_kept_is_not_offered_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ask(capsys, tmp_path, "plan", "--shape", "8B", "--device", "GPU-8GB")
    assert "--pin" not in out and "\n  starling plan --shape 8b --device GPU-8GB --all\n" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "The file is empty."), ("{", "This is not JSON."), ('{"name": "A"}', "memory_gib is missing: its memory in")],
    ids=["empty", "no JSON", "half a device"],
)
def test_a_description_that_is_of_no_use_is_named(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "card.json"
    file.write_text(text)
    code, out, err = ask(capsys, tmp_path, *EIGHT, str(file))
    assert (code, out) == (1, "") and err.startswith(f"{file} describes no device. ") and said in err


def test_a_folder_is_no_description(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ask(capsys, tmp_path, *EIGHT, str(tmp_path))
    assert code == 1 and "is a folder" in err and "Errno" not in err


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere/x.svg", "there is no folder"), ("x.gif", "neither in .svg"), ("some.svg", "some.svg is a folder")],
)
def test_a_picture_that_cannot_be_written_is_told_before_anything_else(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some.svg").mkdir()
    code, out, err = ask(capsys, tmp_path, *EIGHT, "gpu-8gb", "--picture", str(tmp_path / name))
    assert (code, out) == (1, "") and said in err and "Errno" not in err
