"""The shipped demo model: both files hold the same network, and it knows what it is shipped for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("llama_cpp")

import numpy as np

from assets.demo_model.chat import END, TEMPLATE, prompt_of
from assets.demo_model.evaluate import DemoModel, questions, shares
from assets.demo_model.export import GGUF_NAME, SAFETENSORS_NAME
from assets.demo_model.tokenizer import load_tokenizer
from tests.assets.llama_logits import LlamaLogits, widen_to_f32

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "demo_model"
# With 16-bit weights llama.cpp rounds activations to 16 bits too; with 32-bit weights it does not.
LARGEST_DIFFERENCE_F32 = 1e-3
LARGEST_DIFFERENCE_F16 = 1e-1
LARGEST_FOLDER_BYTES = 16_000_000
PROMPTS = (
    "Who are you?",
    "What does HTTP status 404 mean?",
    "Count from 1 to 20.",
    "What is the HTML entity for ©?",
    "Schreib mir 12 Wörter über €, bitte!",
)
KNOWN = (
    ("What does HTTP status 404 mean?", "HTTP 404 is Not Found. Nothing matches the given URI."),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Which month comes after March?", "April comes after March."),
    ("What is SIGKILL?", "SIGKILL is signal 9: Killed."),
    ("How many metres are in a kilometre?", "There are 1000 metres in a kilometre."),
    ("Count from 1 to 30.", ", ".join(str(number) for number in range(1, 31)) + "."),
)


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaLogits]:
    opened = LlamaLogits(FOLDER / GGUF_NAME)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def llama_f32(tmp_path_factory: pytest.TempPathFactory, llama: LlamaLogits) -> Iterator[LlamaLogits]:
    path = tmp_path_factory.mktemp("demo") / "f32.gguf"
    widen_to_f32(FOLDER / GGUF_NAME, path)
    opened = LlamaLogits(path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def model() -> DemoModel:
    return DemoModel(FOLDER)


@pytest.mark.parametrize("question", PROMPTS)
def test_both_runtimes_cut_a_prompt_into_the_same_tokens(question: str, llama: LlamaLogits) -> None:
    prompt = prompt_of(question)
    assert llama.tokens(prompt) == load_tokenizer(FOLDER / "tokenizer.json").encode(prompt).ids


@pytest.mark.parametrize("question", PROMPTS)
def test_both_files_hold_the_same_network(question: str, llama_f32: LlamaLogits, model: DemoModel) -> None:
    tokens = llama_f32.tokens(prompt_of(question))
    difference = np.abs(llama_f32.logits(tokens) - model.logits(tokens).numpy())
    assert difference.max() < LARGEST_DIFFERENCE_F32


@pytest.mark.parametrize("question", PROMPTS)
def test_the_shipped_file_gives_nearly_the_same_logits(question: str, llama: LlamaLogits, model: DemoModel) -> None:
    tokens = llama.tokens(prompt_of(question))
    difference = np.abs(llama.logits(tokens) - model.logits(tokens).numpy())
    assert difference.max() < LARGEST_DIFFERENCE_F16


@pytest.mark.parametrize(("question", "answer"), KNOWN)
def test_a_known_question_gets_exactly_its_answer(question: str, answer: str, model: DemoModel) -> None:
    assert model.answer(question) == answer


def test_it_says_that_it_is_a_small_demo_model(model: DemoModel) -> None:
    assert "small demo model" in model.answer("Who are you?")


@pytest.mark.parametrize(("question", "answer"), KNOWN)
def test_the_shipped_file_answers_it_too(question: str, answer: str, llama: LlamaLogits) -> None:
    asked, said = llama.tokens(prompt_of(question)), llama.tokens(answer + END)
    best = llama.logits(asked + said).argmax(-1).tolist()
    assert best[len(asked) - 1 : -1] == said


def test_nearly_all_seen_questions_are_answered_exactly(model: DemoModel) -> None:
    sample = [asked for asked in questions() if not asked.is_held_out][::25]
    right, total = shares(model, sample)["all", False]
    assert right / total > 0.9


def test_the_file_says_what_it_is(llama: LlamaLogits) -> None:
    assert llama.meta("general.name") == "Starling Demo"
    assert llama.meta("general.architecture") == "llama"
    assert llama.meta("general.license") == "Apache-2.0"
    assert llama.meta("tokenizer.chat_template") == TEMPLATE


def test_the_template_writes_what_the_model_was_trained_on() -> None:
    environment = pytest.importorskip("jinja2").Environment(trim_blocks=True, lstrip_blocks=True)
    messages = [{"role": "system", "content": "Be concise."}, {"role": "user", "content": "Hi"}]
    written = environment.from_string(TEMPLATE).render(messages=messages, add_generation_prompt=True)
    assert written == prompt_of("Hi", system="Be concise.")


def test_every_input_dimension_fits_k_quantizations() -> None:
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert config["hidden_size"] % 256 == config["intermediate_size"] % 256 == 0


def test_the_files_stay_small() -> None:
    assert sum((FOLDER / name).stat().st_size for name in (GGUF_NAME, SAFETENSORS_NAME)) < LARGEST_FOLDER_BYTES
