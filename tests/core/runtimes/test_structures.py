"""The binding's structures are those of the library's own headers: a wrong offset would be a crash or worse."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import llama_cpp
import llama_cpp.llama_cpp as c
import pytest

from core.runtimes.llama_devices import Caps, Props
from core.runtimes.llama_sampler import CANDIDATE

HEADERS = Path(llama_cpp.__file__).parents[1] / "include"
COMPILER = shutil.which("cc") or shutil.which("gcc")
STRUCTURES = {
    "llama_model_params": c.llama_model_params,
    "llama_context_params": c.llama_context_params,
    "llama_model_quantize_params": c.llama_model_quantize_params,
    "llama_batch": c.llama_batch,
    "llama_sampler_chain_params": c.llama_sampler_chain_params,
    "llama_token_data": c.llama_token_data,
    "llama_token_data_array": c.llama_token_data_array,
    "llama_chat_message": c.llama_chat_message,
    "ggml_backend_dev_caps": Caps,
}
PROGRAM = """
#include <stdio.h>
#include <stddef.h>
#include "llama.h"
int main(void) {
%s
printf("props %%zu\\n", sizeof(struct ggml_backend_dev_props));
printf("device_id %%zu\\n", offsetof(struct ggml_backend_dev_props, device_id));
return 0; }
"""


def test_candidates_are_laid_out_as_the_binding_says() -> None:
    offsets = {name: CANDIDATE.fields[name][1] for name in CANDIDATE.names} if CANDIDATE.fields else {}
    assert offsets == {name: getattr(c.llama_token_data, name).offset for name in ("id", "logit", "p")}
    assert CANDIDATE.itemsize == ctypes.sizeof(c.llama_token_data)


@pytest.mark.skipif(COMPILER is None or not (HEADERS / "llama.h").is_file(), reason="needs a C compiler and headers")
def test_every_structure_has_the_size_that_c_gives_it(tmp_path: Path) -> None:
    lines = "\n".join(f'printf("{name} %zu\\n", sizeof(struct {name}));' for name in STRUCTURES)
    source = tmp_path / "sizes.c"
    source.write_text(PROGRAM % lines)
    subprocess.run([str(COMPILER), f"-I{HEADERS}", str(source), "-o", str(tmp_path / "sizes")], check=True)
    printed = subprocess.run([str(tmp_path / "sizes")], check=True, capture_output=True, text=True).stdout
    sizes = {name: int(size) for name, size in (line.split() for line in printed.splitlines())}
    assert sizes.pop("device_id") == Props.device_id.offset
    assert sizes.pop("props") <= ctypes.sizeof(Props)
    assert sizes == {name: ctypes.sizeof(structure) for name, structure in STRUCTURES.items()}
