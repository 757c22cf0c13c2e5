"""Build llama.cpp for this computer and install it. Never leaves a broken build behind without saying so.

Wheels are kept by flavour: pip's own cache knows a wheel by its source alone and would hand a processor build to a GPU.
"""

from __future__ import annotations

from pathlib import Path

from installing.choices import cmake_args
from installing.facts import Flavour
from installing.home import Home
from installing.progress import StepError, Steps, parse_count, run_logged

NAME = "llama-cpp-python"
LOAD_S = 120.0
LOADS = "import llama_cpp; llama_cpp.llama_backend_init()"


def build_and_install(home: Home, flavour: Flavour, *, steps: Steps) -> Flavour:
    """Build, install and load llama.cpp; for the processor if a GPU build fails. StepError if neither works."""
    with steps.step(f"Building llama.cpp for {flavour.value} (minutes; once)"):
        try:
            install(home, flavour, steps=steps, is_fresh=flavour is not Flavour.CPU)
        except StepError:
            # Once more, from source and for the processor: a cached wheel can come from another kind of processor.
            install(home, Flavour.CPU, steps=steps, is_fresh=flavour is Flavour.CPU)
            return Flavour.CPU
    return flavour


def install(home: Home, flavour: Flavour, *, steps: Steps, is_fresh: bool) -> None:
    """Install the wheel of one flavour, building it if it is not kept, and load it once."""
    wheel = kept_wheel(home, flavour)
    if wheel is None:
        build(home, flavour, steps=steps, is_fresh=is_fresh)
        wheel = kept_wheel(home, flavour)
    if wheel is None:
        raise StepError("pip made no wheel")
    words = ["install", "--no-deps", "--force-reinstall", str(wheel)]
    try:
        run_logged([str(home.python), "-m", "pip", "--disable-pip-version-check", *words], home.log)
        run_logged([str(home.python), "-c", LOADS], home.log, limit_s=LOAD_S)
    except StepError:
        wheel.unlink(missing_ok=True)
        raise


def build(home: Home, flavour: Flavour, *, steps: Steps, is_fresh: bool) -> None:
    """Make the wheel; fresh: from source, whatever pip has in its cache."""

    def on_line(line: str) -> None:
        found = parse_count(line)
        if found is not None:
            steps.count(*found)

    source = ["--no-cache-dir", f"--no-binary={NAME}"] if is_fresh else []
    lock = str(home.lock_file("-llama"))
    words = ["wheel", "-v", "--no-deps", *source, "-w", str(shelf(home, flavour)), "-r", lock]
    run_logged(
        [str(home.python), "-m", "pip", "--disable-pip-version-check", *words],
        home.log,
        on_line=on_line,
        extra_env={"CMAKE_ARGS": cmake_args(flavour), "PIP_PROGRESS_BAR": "off"},
    )


def shelf(home: Home, flavour: Flavour) -> Path:
    """Where the wheels of one flavour are kept."""
    return home.room / "wheels" / flavour.name.lower()


def kept_wheel(home: Home, flavour: Flavour) -> Path | None:
    """The wheel of exactly the locked version, if it is kept."""
    version = home.lock_file("-llama").read_text().partition(f"{NAME}==")[2].split()[0]
    return next(shelf(home, flavour).glob(f"llama_cpp_python-{version}-*.whl"), None)
