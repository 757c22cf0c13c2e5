"""Laws of what the set-up builds and says on which computer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from installing import choices
from installing.choices import choose_flavour
from installing.facts import Facts, Flavour, Gpu, Need, Packages, System, Tools

LINUX = Facts(System.LINUX, Packages.APT, (3, 11, 7), free_bytes=2**40)
ALL_TOOLS = Tools(nvcc=True, vulkan=True)
VULKAN = Tools(vulkan=True)


def on(gpu: Gpu, tools: Tools | None = None) -> Facts:
    return replace(LINUX, gpu=gpu, tools=tools or Tools())


@pytest.mark.parametrize(
    ("facts", "flavour"),
    [
        (on(Gpu.NVIDIA, ALL_TOOLS), Flavour.CUDA),
        (on(Gpu.NVIDIA, VULKAN), Flavour.VULKAN),
        (on(Gpu.AMD, ALL_TOOLS), Flavour.VULKAN),
        (on(Gpu.INTEL, VULKAN), Flavour.VULKAN),
        (on(Gpu.AMD, Tools(nvcc=True)), Flavour.CPU),
        (on(Gpu.NVIDIA), Flavour.CPU),
        (replace(LINUX, system=System.MAC, gpu=Gpu.APPLE), Flavour.METAL),
    ],
)
def test_the_build_uses_the_gpu_that_its_tools_can_build_for(facts: Facts, flavour: Flavour) -> None:
    assert choose_flavour(facts) is flavour


@pytest.mark.parametrize("gpu", [Gpu.NONE, Gpu.NVIDIA_WITHOUT_DRIVER])
def test_nvcc_without_a_driven_gpu_builds_for_the_processor(gpu: Gpu) -> None:
    assert choose_flavour(on(gpu, ALL_TOOLS)) is Flavour.CPU


@pytest.mark.parametrize("gpu", [gpu for gpu in Gpu if gpu not in (Gpu.NONE, Gpu.APPLE)])
@pytest.mark.parametrize("packages", [Packages.APT, Packages.DNF])
def test_a_gpu_left_unused_is_named_with_the_line_that_fixes_it(gpu: Gpu, packages: Packages) -> None:
    advice = choices.unused_gpu(replace(on(gpu), packages=packages), Flavour.CPU)
    assert advice is not None
    assert gpu.value in advice.sentence
    assert advice.line.startswith("sudo ")


def test_a_used_gpu_and_no_gpu_are_not_complained_about() -> None:
    assert choices.unused_gpu(on(Gpu.NVIDIA, ALL_TOOLS), Flavour.CUDA) is None
    assert choices.unused_gpu(LINUX, Flavour.CPU) is None


def test_only_gpu_flavours_ask_cmake_for_a_gpu() -> None:
    assert "CUDA" in choices.cmake_args(Flavour.CUDA)
    assert "VULKAN" in choices.cmake_args(Flavour.VULKAN)
    assert "GGML" not in choices.cmake_args(Flavour.CPU) + choices.cmake_args(Flavour.METAL)


def test_torch_comes_by_itself_only_where_its_ordinary_build_finds_a_gpu() -> None:
    taken = {gpu for gpu in Gpu if choices.has_use_for_torch(on(gpu))}
    assert taken == {Gpu.NVIDIA, Gpu.APPLE}


def test_torch_for_cuda_is_announced_as_the_larger_one() -> None:
    assert "GB to download" in choices.torch_size(on(Gpu.NVIDIA))
    assert "MB to download" in choices.torch_size(LINUX)


def test_one_missing_thing_is_one_sentence_and_one_apt_line() -> None:
    advice = choices.missing_advice(frozenset({Need.COMPILER}), LINUX)
    assert advice is not None
    assert advice.sentence == "Starling needs a C++ compiler, not found on this computer"
    assert advice.line == "sudo apt-get install -y g++"


def test_the_venv_and_header_packages_bear_the_version_of_this_python() -> None:
    words = choices.install_words(frozenset({Need.VENV, Need.HEADERS}), LINUX)
    assert words == ["apt-get", "install", "-y", "python3.11-venv", "python3.11-dev"]


def test_all_that_is_missing_is_told_at_once_in_the_words_of_each_distribution() -> None:
    everything = frozenset(Need)
    apt = choices.install_words(everything, LINUX)
    dnf = choices.install_words(everything, replace(LINUX, packages=Packages.DNF))
    assert {"g++", "libgmp-dev", "libegl1", "libxcb-cursor0"} < set(apt)
    assert {"gcc-c++", "gmp-devel", "libglvnd-egl", "xcb-util-cursor"} < set(dnf)
    assert len(set(apt)) == len(apt)


def test_root_is_not_told_to_use_sudo() -> None:
    advice = choices.missing_advice(frozenset({Need.GMP}), replace(LINUX, is_root=True))
    assert advice is not None
    assert advice.line == "apt-get install -y libgmp-dev"


def test_an_unknown_distribution_gets_the_sentence_without_a_wrong_line() -> None:
    advice = choices.missing_advice(frozenset({Need.GMP}), replace(LINUX, packages=Packages.OTHER))
    assert advice is not None
    assert advice.line == ""


def test_window_libraries_are_needed_only_where_a_window_can_open() -> None:
    facts = replace(LINUX, missing=frozenset({Need.WINDOW, Need.OFFSCREEN, Need.GMP}))
    headless = replace(facts, has_display=False)
    assert choices.needed(facts, for_tests=False) == facts.missing
    assert choices.needed(headless, for_tests=False) == {Need.GMP}
    assert choices.needed(headless, for_tests=True) == {Need.GMP, Need.OFFSCREEN}


def test_nothing_missing_is_nothing_said_and_nothing_installed() -> None:
    assert choices.install_words(frozenset(), LINUX) == []
    assert choices.missing_advice(frozenset(), LINUX) is None


def test_a_full_disk_is_told_before_the_work_begins() -> None:
    advice = choices.space_advice(replace(LINUX, free_bytes=2**29), needed_bytes=3 * 2**30)
    assert advice is not None
    assert "3 GB" in advice.sentence
    assert "0.5 GB" in advice.sentence
    assert choices.space_advice(LINUX, needed_bytes=3 * 2**30) is None


@pytest.mark.parametrize(("minor", "is_known"), [(10, False), (11, True), (13, True), (14, False)])
def test_only_pythons_that_the_lock_files_know_are_taken(minor: int, is_known: bool) -> None:
    assert (choices.python_advice((3, minor, 1)) is None) is is_known
