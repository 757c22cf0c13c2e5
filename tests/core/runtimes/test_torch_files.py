"""Strangers' folders: nothing of theirs runs, nothing is fetched, and what is wrong is said in one sentence."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import safetensors.numpy

from core.plan import Plan
from core.runtimes.prefix_cache import Costs
from core.runtimes.runtime import RuntimeFault
from core.runtimes.torch_model import TorchModel
from core.worker.messages import FaultKind

DEMO = Path(__file__).parents[3] / "assets" / "demo_model"
PARTS = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
PLAN = Plan("x", "torch", "F32", slots=1, slot_context_tokens=64, prefill_chunk=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in PARTS:
        shutil.copy(DEMO / name, tmp_path)
    return tmp_path


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def load(path: Path) -> TorchModel:
    return TorchModel(PLAN, str(path), costs=Costs(), tell=lambda _fraction: None)


def refusal(path: Path) -> str:
    with pytest.raises(RuntimeFault) as refused:
        load(path)
    assert refused.value.kind is FaultKind.BAD_FILE
    return refused.value.message


@pytest.mark.parametrize("name", ["", "model.safetensors", "config.json"])
def test_a_folder_opens_by_itself_or_by_a_file_in_it(folder: Path, name: str) -> None:
    load(folder / name).close()


def test_code_in_the_folder_never_runs(folder: Path) -> None:
    mark = folder / "it_ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Evil: pass\n")
    auto = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    change(folder / "config.json", auto_map=auto)
    load(folder).close()
    change(folder / "config.json", model_type="evil")
    assert "cannot be opened" in refusal(folder)
    assert not mark.exists()


class _Bomb:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.mark, "w")


def test_a_pickle_is_never_read(folder: Path) -> None:
    mark = folder / "it_ran"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb(str(mark))))
    assert "cannot be opened" in refusal(folder)
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "pytorch_model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "no safetensors file of this folder" in refusal(folder)
    assert not mark.exists()


def test_an_index_may_not_lead_out_of_its_folder(folder: Path) -> None:
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "../other/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "no safetensors file of this folder" in refusal(folder)


def test_a_config_cannot_choose_kernels_or_quantizers(folder: Path) -> None:
    change(folder / "config.json", _attn_implementation="kernels-community/flash-attn", attn_implementation="evil/x")
    load(folder).close()
    change(folder / "config.json", quantization_config={"quant_method": "gptq"})
    assert "quantization_config" in refusal(folder)


def test_a_missing_tensor_is_named_and_never_made_up(folder: Path) -> None:
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    lost = sorted(tensors)[3]
    del tensors[lost]
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert lost in refusal(folder)


@pytest.mark.parametrize(
    "entries",
    [
        {"hidden_size": 512},
        {"hidden_size": "many"},
        {"num_attention_heads": 0},
        {"num_hidden_layers": 5},
        {"model_type": "bert"},
        {"model_type": "t5"},
        {"vocab_size": -1},
        {"hidden_act": "__import__('os').system('true')"},
        {"rope_scaling": {"rope_type": "nonsense", "factor": -1}},
    ],
)
def test_a_config_that_does_not_fit_is_a_bad_file(folder: Path, entries: dict[str, Any]) -> None:
    change(folder / "config.json", **entries)
    assert refusal(folder)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "gone"])
def test_a_damaged_part_is_a_bad_file(folder: Path, name: str, damage: str) -> None:
    whole = (folder / name).read_bytes()
    match damage:
        case "cut":
            (folder / name).write_bytes(whole[: len(whole) // 2])
        case "empty":
            (folder / name).write_bytes(b"")
        case "noise":
            (folder / name).write_bytes(b"[" * len(whole))
        case _:
            (folder / name).unlink()
    if (name, damage) == ("tokenizer_config.json", "gone"):
        load(folder).close()
    else:
        assert refusal(folder)


def test_a_template_that_is_no_template_is_a_bad_file(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for %}")
    assert "template" in refusal(folder)
