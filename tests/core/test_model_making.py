"""Quantizing is a function of its source and its type, and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from core.model_making import expected_bytes
from core.model_trouble import ModelStoreError
from core.worker.messages import Quantize, Quantized
from core.worker.process import run_once
from tests.models import write_tiny_gguf


@pytest.mark.parametrize("quantization", ["Q4_K_M", "IQ4_XS"])
async def test_the_number_of_threads_changes_no_byte(tmp_path: Path, quantization: str) -> None:
    source = write_tiny_gguf(tmp_path / "source.gguf")
    hashes = set()
    for threads in (1, 3):
        target = tmp_path / f"{threads}.gguf"
        report = await run_once(Quantize(str(source), str(target), quantization, threads), deadline_s=120)
        assert isinstance(report, Quantized)
        hashes.add(hashlib.sha256(target.read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_what_is_to_be_made_has_no_more_bits_than_its_source() -> None:
    assert expected_bytes(1000, "Q8_0", source="F16") < 1000
    assert expected_bytes(1000, "BF16", source="F16") == 1100
    for quantization, source in (("F16", "Q8_0"), ("F32", "F16"), ("Q2_K", "Q4_K_M"), ("NONE", "F16")):
        with pytest.raises(ModelStoreError):
            expected_bytes(1000, quantization, source=source)
