"""The laws of evaluation: any table of this form is scored, a broken one is one line, and nothing is trained on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.metamodel.evaluate import main
from core.metamodel.evaluation import peer, rerun, source, tell
from core.metamodel.figures import Figure, read_figures, read_hardware, read_loads
from core.metamodel.predictor import Prior
from core.metamodel.scores import says_fits

FIGURES = {
    "decode_median_error_cold", "decode_median_error_1", "decode_vs_rival_cold", "decode_vs_rival_1",
    "prefill_device_median_error", "fit_accuracy", "interval80_coverage", "promise_broken_share",
}  # fmt: skip
HARDWARE = """hardware,vram_gib,mem_bandwidth_gbs,fp16_tflops,fp32_tflops,source,arch,unified
GPU of tomorrow,24,1200,150,75,made up,,0
Blank GPU,,,,,,,
"""
HEADER = (
    "source,source_date,hardware,backend,n_gpus,vram_gib,mem_bandwidth_gbs,fp16_tflops,model,params_b,n_layers,hidden,"
    "quant,bits_per_weight,runtime,phase,n_prompt,n_gen,batch,tokens_per_s,oom,params_active_b,size_gib,depth,"
    "n_gpu_layers,settings,tier\n"
)
GOOD = [
    f"s,,GPU of tomorrow,cuda,1,24,,,Seven,{size},,,Q4_K_M,4.9,llama.cpp,{phase},512,128,1,{speed},0,,,,,,bench\n"
    for size, phase, speed in (
        (7, "tg", 150), (13, "tg", 90), (3, "tg", 280), (7, "pp", 5000), (13, "pp", 2800), (3, "pp", 9000),
        (1, "pp", 20000), (1, "tg", 500),
    )
]  # fmt: skip
ODD = [
    "\n",
    "only,three,cells\n",
    ",,Unheard of,,,,,,,,,,,,,tg,,,,12.5,,,,,,,\n",
    "s,,Blank GPU,warp,0,,,,X,-1,nan,inf,Q9_Z,?,new runtime,tg,x,y,0,33,0,,,,,,\n",
    "s,,New GPU,npu,-2,0,500,-3,A0B,0,0,0,,,?,pp,0,0,0,1e3,,0,0,-5,abc,fa=maybe ub=0,gossip\n",
    "s,,GPU of tomorrow,cuda,1,24,,,Seven,70,,,F16,16,llama.cpp,tg,512,128,1,,1,,131,,,,bench\n",
    "s,,GPU of tomorrow,cuda,1,24,,,Seven,7,,,Q4_K_M,,llama.cpp,neither,512,128,1,15,0,,,,,,bench\n",
    "s,,GPU of tomorrow,cuda,1,24,,,Seven,7,,,Q4_K_M,,llama.cpp,tg,512,128,1,-15,0,,,,,,bench,and,more\n",
]


def scored(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> tuple[int, str, str]:
    figures, hardware = tmp_path / "figures.csv", tmp_path / "hardware.csv"
    figures.write_text(text, encoding="utf-8")
    hardware.write_text(HARDWARE, encoding="utf-8")
    status = main(["--figures", str(figures), "--hardware", str(hardware), "--json"])
    return status, *capsys.readouterr()


def test_the_promised_figures_are_given_and_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = scored(tmp_path, capsys, HEADER + "".join(GOOD))
    found = json.loads(out)["figures"]
    assert status == 0 and set(found) == FIGURES
    assert all(isinstance(value, float) for value in found.values())


def test_odd_rows_never_stop_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = scored(tmp_path, capsys, HEADER + "".join(ODD + GOOD))
    assert status == 0 and set(json.loads(out)["figures"]) == FIGURES


@pytest.mark.parametrize("rows", [[], ODD], ids=["none", "odd"])
def test_a_table_without_a_row_to_score_has_blank_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[str]
) -> None:
    status, out, _ = scored(tmp_path, capsys, HEADER + "".join(rows))
    assert status == 0 and json.loads(out)["figures"]["decode_median_error_cold"] is None


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00binary", b"a,b\n1,2\n", b"hardware,phase\nx,tg\n"])
def test_a_broken_file_is_one_clear_line_and_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    broken = tmp_path / "broken.csv"
    broken.write_bytes(content)
    assert main(["--figures", str(broken)]) == 2
    assert main(["--figures", str(tmp_path / "nowhere.csv")]) == 2
    assert main(["--figures", str(broken), "--hardware", str(broken)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 3 and "broken.csv" in err and "nowhere.csv" in err


def test_a_prior_that_is_none_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prior.json").write_text("[]")
    (tmp_path / "f.csv").write_text(HEADER)
    assert main(["--figures", str(tmp_path / "f.csv"), "--prior", str(tmp_path / "prior.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def read(tmp_path: Path, rows: list[str]) -> list[Figure]:
    figures, hardware = tmp_path / "figures.csv", tmp_path / "hardware.csv"
    figures.write_text(HEADER + "".join(rows), encoding="utf-8")
    hardware.write_text(HARDWARE, encoding="utf-8")
    return read_figures(figures, read_hardware(hardware))


def test_what_physics_forbids_is_left_out(tmp_path: Path) -> None:
    too_fast = GOOD[0].replace(",150,", ",1500,")
    cached = GOOD[3].replace(",5000,", ",500000,")
    assert read(tmp_path, [too_fast, cached, *GOOD]) == read(tmp_path, GOOD)


def test_no_row_is_predicted_by_an_own_run_of_itself(tmp_path: Path) -> None:
    """Eight rows a phase, each cell twice: of four draws, each leaves out both rows of its cell."""
    told = tell(read(tmp_path, [*GOOD, *(row.replace("Seven", "Eight") for row in GOOD)]), Prior())
    assert [len(rerun(part, 1).rows) for part in told] == [4 * (8 - 2)] * 2


def test_an_own_run_is_of_the_same_machine_and_of_somebody_who_is_known(tmp_path: Path) -> None:
    first = GOOD[0]
    another = [
        first.replace("s,,", "t/u/v,,"), first.replace("bench", "crowd-unverified"), first.replace("cuda", "vulkan"),
        first.replace(",,bench", ",driver=2,bench"),
    ]  # fmt: skip
    planned = first.replace("Seven", "Eight").replace(",,bench", ",fa=1 b=2048,bench")
    found = [peer(f) for f in read(tmp_path, [first, *another, planned])]
    assert found[0] == found[-1] is not None
    assert found[2] is None and len(set(found)) == 5
    assert source(read(tmp_path, another)[0]) == "t/u"


def test_an_attempt_that_ran_out_of_memory_is_told_from_one_that_ran(tmp_path: Path) -> None:
    read(tmp_path, [ODD[5], *GOOD])
    loads = read_loads(tmp_path / "figures.csv", read_hardware(tmp_path / "hardware.csv"))
    assert any(load.out_of_memory for load in loads)
    assert all(says_fits(load) is not load.out_of_memory for load in loads)


def test_what_sources_call_a_thing_does_not_change_what_it_is(tmp_path: Path) -> None:
    plain = GOOD[0]
    named = [
        plain.replace("llama.cpp", "LM Studio"), plain.replace("llama.cpp", "ollama 0.9"),
        plain.replace("Q4_K_M", "q4_k"), plain.replace("cuda", "cuBLAS"), plain.replace("bench", "elsewhere"),
    ]  # fmt: skip
    expected = read(tmp_path, [plain])[0].case
    assert [read(tmp_path, [row])[0].case for row in named] == [expected] * len(named)


def test_a_sparse_models_unknown_shape_is_deeper_and_narrower_than_a_dense_ones(tmp_path: Path) -> None:
    dense = GOOD[0].replace(",7,,,", ",3,,,")
    sparse = GOOD[0].replace("Seven,7,", "Thirty-A3B,30,")
    a, b = (found.case for found in read(tmp_path, [dense, sparse]))
    assert a.active_parameters == b.active_parameters and a.layers < b.layers and a.hidden > b.hidden
