"""Laws of the Vulkan check's own questions: what is missing is said with the line that brings it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import vulkan_check


def include(folder: Path, version: int) -> Path:
    (folder / "vulkan").mkdir()
    (folder / "vulkan" / "vulkan_core.h").write_text(f"#define VK_HEADER_VERSION {version}\n")
    return folder


def test_headers_say_their_version_and_absent_ones_say_nothing(tmp_path: Path) -> None:
    assert vulkan_check.header_version(tmp_path) is None
    assert vulkan_check.header_version(include(tmp_path, 309)) == 309


def test_without_the_packages_the_apt_line_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert vulkan_check.APT_LINE in vulkan_check.what_is_missing(None)


def test_headers_too_old_for_llama_cpp_are_said_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "glslc")
    monkeypatch.setattr(vulkan_check, "lavapipe", lambda: tmp_path)
    assert "version 239" in vulkan_check.what_is_missing(include(tmp_path, 239))
