"""The tiny random model, and each runtime with it loaded: what the laws of every runtime are tried on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.runtimes.runtime import Runtime
from tests.trials import RUNTIMES, load, write_f32_gguf


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_f32_gguf(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", params=RUNTIMES)
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "torch":
        pytest.importorskip("transformers")
    return str(request.param)


@pytest.fixture(scope="module")
def loaded(name: str, path: Path) -> Iterator[Runtime]:
    runtime = load(name, path)
    yield runtime
    runtime.unload()


@pytest.fixture
def runtime(loaded: Runtime) -> Iterator[Runtime]:
    yield loaded
    assert not loaded.has_jobs
