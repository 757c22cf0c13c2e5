"""Exercise GPU offload without a GPU: build llama.cpp for Vulkan and run it on Mesa's lavapipe, which draws on the CPU.

`python packaging/vulkan_check.py [--folder FOLDER] [--headers FOLDER]`; not part of CI: the build takes half an hour.
The wheel is kept in the folder, so that a second run takes a minute. Never touches the installed build.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "packaging" / "requirements-llama.lock"
TRIAL = ROOT / "packaging" / "vulkan_trial.py"
APT_LINE = "apt-get install -y mesa-vulkan-drivers libvulkan-dev glslc spirv-headers g++"
CMAKE_ARGS = "-DLLAVA_BUILD=OFF -DGGML_VULKAN=on"
# llama.cpp uses VK_EXT_layer_settings, which came with these headers; Debian 12 has 239
NEEDED_HEADERS = 272
HEADER_ADVICE = (
    "Vulkan's headers here are too old for llama.cpp: version {found}, and {needed} is needed. Newer ones can lie in"
    " any folder: git clone --depth 1 https://github.com/KhronosGroup/Vulkan-Headers, then add --headers"
    " Vulkan-Headers/include"
)
BUILD_LIMIT_S = 3 * 3600
TRIAL_LIMIT_S = 1800


def main(arguments: list[str]) -> int:
    """0 when every trial held."""
    options = _options().parse_args(arguments)
    missing = what_is_missing(options.headers)
    if missing:
        print(missing, file=sys.stderr)
        return 2
    python = prepared_python(options.folder, options.headers)
    if python is None:
        print(f"llama.cpp could not be built for Vulkan; {options.folder / 'build.log'} says why.", file=sys.stderr)
        return 1
    print("Trying the device list, offload, logits, memory counts and a full device on lavapipe.", flush=True)
    return subprocess.run([str(python), str(TRIAL)], env=trial_environment(), timeout=TRIAL_LIMIT_S).returncode


def what_is_missing(headers: Path | None) -> str:
    """What to install before this can run, or nothing."""
    if not shutil.which("glslc") or lavapipe() is None:
        return f"A Vulkan build needs a few packages that are not here: {APT_LINE}"
    found = header_version(headers or Path("/usr/include"))
    if found is None:
        return f"Vulkan's headers are not here: {APT_LINE}"
    return "" if found >= NEEDED_HEADERS else HEADER_ADVICE.format(found=found, needed=NEEDED_HEADERS)


def header_version(include: Path) -> int | None:
    """The patch number of the Vulkan headers in this folder, with later minor versions counting as newer still."""
    try:
        text = (include / "vulkan" / "vulkan_core.h").read_text(encoding="utf-8")
    except OSError:
        return None
    number = re.search(r"#define VK_HEADER_VERSION (\d+)", text)
    return int(number[1]) if number else None


def lavapipe() -> Path | None:
    """The description of Mesa's software driver."""
    folders = (Path("/usr/share/vulkan/icd.d"), Path("/etc/vulkan/icd.d"))
    return next((file for folder in folders for file in sorted(folder.glob("lvp_icd*.json"))), None)


def prepared_python(folder: Path, headers: Path | None) -> Path | None:
    """A Python whose llama_cpp is built for Vulkan and whose other packages are ours; None when the build failed."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = _wheel(folder)
    if wheel is None:
        print("Building llama.cpp for Vulkan: 450 files, half an hour on two cores, kept for next time.", flush=True)
        _run(_build_command(folder), folder, headers=headers)
        wheel = _wheel(folder)
    if wheel is None:
        return None
    place = folder / "venv"
    python = place / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
    if not (site / "llama_cpp").is_dir():
        venv.create(place, symlinks=True)
        # later on the path than the venv's own packages: its llama_cpp hides ours
        (site / "starling.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        _run([*_pip("install"), "--no-deps", "--target", str(site), str(wheel)], folder, headers=headers)
    return python if (site / "llama_cpp").is_dir() else None


def trial_environment() -> dict[str, str]:
    """Ours, with only the software driver to be seen: twice, so that layers can be split. Without fused operations:
    with them Mesa 22.3 dies in its own thread when a batch of 12 follows a batch of 1."""
    seen = {"VK_ICD_FILENAMES": str(lavapipe()), "GGML_VK_VISIBLE_DEVICES": "0,0", "GGML_VK_DISABLE_FUSION": "1"}
    return dict(os.environ) | seen | {"PYTHONPATH": str(ROOT), "GGML_NO_BACKTRACE": "1"}


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Try GPU offload on Mesa's software Vulkan driver")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "starling-vulkan"
    parser.add_argument("--folder", type=Path, default=cache, help=f"where the build is kept (default: {cache})")
    parser.add_argument("--headers", type=Path, help="an include folder with newer Vulkan headers than the system's")
    return parser


def _wheel(folder: Path) -> Path | None:
    version = LOCK.read_text(encoding="utf-8").partition("llama-cpp-python==")[2].split()[0]
    return next((folder / "wheels").glob(f"llama_cpp_python-{version}-*.whl"), None)


def _pip(*words: str) -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]


def _build_command(folder: Path) -> list[str]:
    kept = f"--config-settings=build-dir={folder / 'build'}"
    source = ("--no-cache-dir", "--no-binary=llama-cpp-python", kept)
    return [*_pip("wheel"), "-v", "--no-deps", *source, "-w", str(folder / "wheels"), "-r", str(LOCK)]


def _run(command: list[str], folder: Path, *, headers: Path | None) -> None:
    include = f" -DVulkan_INCLUDE_DIR={headers.resolve()}" if headers is not None else ""
    environment = dict(os.environ) | {"CMAKE_ARGS": CMAKE_ARGS + include, "PIP_PROGRESS_BAR": "off"}
    with (folder / "build.log").open("ab") as log:
        subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=BUILD_LIMIT_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
