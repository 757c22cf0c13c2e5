"""Laws of embeddings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from core.job import Sampling
from core.runtimes.llama_embedder import Embedder
from core.runtimes.runtime import RuntimeFault
from core.worker.messages import FaultKind
from tests.models import write_tiny_gguf
from tests.speaker import Speaker

TEXTS = tuple(f"the number {n} " * (1 + n % 5) for n in range(40))


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speaker]:
    speaker = Speaker(write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf", context=256), context=256)
    yield speaker
    speaker.close()


@pytest.fixture(scope="module")
def embedder(speaker: Speaker) -> Iterator[Embedder]:
    embedder = Embedder(speaker.model, threads=1, log=speaker.log)
    yield embedder
    embedder.close()
    embedder.close()


def test_vectors_have_length_one_and_come_in_order(embedder: Embedder) -> None:
    vectors, tokens = embedder.embed(TEXTS)
    assert len(vectors) == len(TEXTS) and tokens > len(TEXTS)
    assert np.allclose(np.linalg.norm(np.array(vectors), axis=1), 1, atol=1e-6)
    alone = np.array([embedder.embed([text])[0][0] for text in TEXTS])
    assert np.abs(alone - np.array(vectors)).max() < 2e-3


def test_equal_texts_have_equal_vectors_and_others_others(embedder: Embedder) -> None:
    vectors, _ = embedder.embed(["the cat", "a dog", "the cat"])
    assert np.abs(np.array(vectors[0]) - np.array(vectors[2])).max() < 2e-3
    assert np.dot(vectors[0], vectors[1]) < 0.999
    assert embedder.embed(["the cat"]) == embedder.embed(["the cat"])


@pytest.mark.parametrize("texts", [(), ("",), ("x" * 400,), ("x" * 1_000_000,), ("a",) * 300])
def test_texts_that_do_not_fit_are_a_bad_request(embedder: Embedder, texts: tuple[str, ...]) -> None:
    with pytest.raises(RuntimeFault) as refused:
        embedder.embed(texts)
    assert refused.value.kind is FaultKind.BAD_REQUEST
    assert embedder.embed(["still here"])[1] > 0


def test_generating_goes_on_beside_embeddings(speaker: Speaker, embedder: Embedder) -> None:
    before = speaker.say(speaker.prompt("hello"), Sampling(max_tokens=16))
    embedder.embed(TEXTS)
    assert speaker.say(speaker.prompt("hello"), Sampling(max_tokens=16)) == before
