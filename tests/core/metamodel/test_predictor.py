"""The laws of the predictor: LightGBM only at the first prediction, and the formula alone where there is none."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from core.metamodel.correction import Observation
from core.metamodel.features import Case
from core.metamodel.predictor import WITHOUT_LIGHTGBM, Phase, Predictor, Prior, bounds, open_prior

ROOT = Path(__file__).parents[3]
PRIOR = ROOT / "assets" / "metamodel" / "prior.json"
CASE = Case(
    bandwidth_gbs=936.0, matrix_tflops=71.0, file_bytes=4.9e9, active_bytes=4.9e9, parameters=8.03e9,
    active_parameters=8.03e9, layers=32.0, hidden=4096.0, bits=4.9, kv_bytes_per_token=131072.0, backend="cuda",
)  # fmt: skip
UNTRAINED = Predictor(Prior())


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(open_prior(PRIOR))


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_lightgbm_is_imported_with_the_first_prediction_and_not_before() -> None:
    found = run(
        "import sys\n"
        "from pathlib import Path\n"
        "from core.metamodel.meta_model import MetaModel\n"
        "from core.metamodel.predictor import Phase, Predictor, open_prior\n"
        "from tests.core.metamodel.test_predictor import CASE\n"
        "predictor = Predictor(open_prior(Path('assets/metamodel/prior.json')))\n"
        "before = 'lightgbm' in sys.modules\n"
        "predictor.predict(Phase.DECODE, [CASE])\n"
        "print(before, 'lightgbm' in sys.modules)"
    )
    assert found.stdout.split() == ["False", "True"], found.stderr


def test_without_lightgbm_the_formula_predicts_and_one_line_says_so() -> None:
    found = run(
        "import sys\n"
        "sys.modules['lightgbm'] = None\n"
        "import logging\n"
        "logging.basicConfig()\n"
        "from pathlib import Path\n"
        "from core.metamodel.predictor import Phase, Predictor, open_prior\n"
        "from tests.core.metamodel.test_predictor import CASE\n"
        "predictor = Predictor(open_prior(Path('assets/metamodel/prior.json')))\n"
        "speeds = [predictor.predict(phase, [CASE])[0].tokens_per_s for phase in Phase for _ in range(2)]\n"
        "print(all(speed > 0 for speed in speeds), predictor.notice)"
    )
    assert found.stdout.strip() == f"True {WITHOUT_LIGHTGBM}", found.stderr
    assert found.stderr.count(WITHOUT_LIGHTGBM) == 1


def test_the_formula_alone_promises_no_more_than_its_own_errors_allow(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    alone = Predictor(predictor.prior)
    for phase in Phase:
        trained = predictor.prior.decode if phase is Phase.DECODE else predictor.prior.prefill
        assert alone.side(phase).spread == trained.plain_spread


def test_an_untrained_prior_is_the_formula_and_nothing_is_amiss(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert UNTRAINED.predict(Phase.DECODE, [CASE])[0].tokens_per_s > 0
    assert UNTRAINED.notice == "" and not caplog.records


def test_many_cases_are_predicted_as_each_alone(predictor: Predictor) -> None:
    cases = [msgspec.structs.replace(CASE, batch=float(b), depth=100.0 * b) for b in range(1, 9)]
    for phase in Phase:
        assert predictor.predict(phase, cases) == [predictor.predict(phase, [c])[0] for c in cases]


def test_no_case_gives_no_prediction(predictor: Predictor) -> None:
    assert predictor.predict(Phase.DECODE, []) == [] == predictor.corrected(Phase.PREFILL, [], seen=())


def test_an_unknown_runtime_backend_and_quantization_are_predicted_all_the_same(predictor: Predictor) -> None:
    odd = msgspec.structs.replace(CASE, backend="webgpu", runtime="a new one", dequant_class=9, bits=1.0)
    assert all(predictor.predict(phase, [odd])[0].tokens_per_s > 0 for phase in Phase)


def test_an_own_run_moves_its_own_cell_to_what_was_measured(predictor: Predictor) -> None:
    for phase in Phase:
        cold = predictor.predict(phase, [CASE])[0].tokens_per_s
        seen = (Observation(CASE, 0.6 * cold, cold),)
        found = predictor.corrected(phase, [CASE], seen=seen)[0]
        assert abs(found.tokens_per_s / (0.6 * cold) - 1) < 0.05
        low, high = bounds(predictor.side(phase).spread, None)
        assert low < found.low < 0 < found.high < high


def test_five_hundred_candidates_take_a_few_hundredths_of_a_second(predictor: Predictor) -> None:
    cases = [msgspec.structs.replace(CASE, depth=float(i), chunk_tokens=64.0 + i) for i in range(500)]
    seen = (Observation(CASE, 100.0, 90.0),)
    took = []
    for _ in range(5):
        started = time.perf_counter()
        for phase in Phase:
            predictor.corrected(phase, cases, seen=seen)
        predictor.slopes(cases)
        took.append(time.perf_counter() - started)
    assert min(took) < 0.06
