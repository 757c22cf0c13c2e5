"""Which model of the hub an owner means."""

from __future__ import annotations

import pytest

from core.model_download.messages import HubFile
from core.model_download.source import HubModel, choose, hub_model
from core.model_trouble import HubTrouble

SHARDS = tuple(f"Q8_0/big-Q8_0-0000{n}-of-00002.gguf" for n in (1, 2))
NAMES = ("big-Q4_K_M.gguf", "big-F16.gguf", *SHARDS, "mmproj-F16.gguf", "imatrix.gguf")


def files(*names: str, sha256: str = "00") -> tuple[HubFile, ...]:
    return tuple(HubFile(name, 1, sha256) for name in names)


def chosen(text: str, *names: str) -> list[str]:
    return [file.name for file in choose(hub_model(text), files(*(names or NAMES))).files]


def test_a_repository_and_what_of_it() -> None:
    assert hub_model(" a/b ") == HubModel("a/b")
    assert hub_model("a/b:Q8_0") == HubModel("a/b", "Q8_0")


@pytest.mark.parametrize("text", ["", "a", "a/b/c", "../b", "a/..", "http://x/y", "a/b c", "-a/b"])
def test_what_names_no_repository_is_refused(text: str) -> None:
    with pytest.raises(HubTrouble, match="OWNER/NAME"):
        hub_model(text)


def test_a_type_a_file_or_the_only_one() -> None:
    assert chosen("a/b:q4_k_m") == ["big-Q4_K_M.gguf"]
    assert chosen("a/b:F16") == ["big-F16.gguf"]
    assert chosen("a/b:Q8_0") == list(SHARDS)
    assert chosen("a/b:big-Q8_0-00002-of-00002.gguf") == list(SHARDS)
    assert chosen("a/b", "only.gguf", "mmproj.gguf") == ["only.gguf"]


def test_between_several_it_is_the_owner_who_says() -> None:
    with pytest.raises(HubTrouble, match=r"several models: Q8_0, F16, Q4_K_M. Say which, as a/b:Q8_0"):
        chosen("a/b")
    with pytest.raises(HubTrouble, match=r"has no Q2_K, but Q8_0, F16, Q4_K_M"):
        chosen("a/b:Q2_K")
    with pytest.raises(HubTrouble, match=r"several models: one-Q4_0.gguf, two-Q4_0.gguf"):
        chosen("a/b:Q4_0", "one-Q4_0.gguf", "two-Q4_0.gguf")


def test_what_is_not_whole_or_not_proven_is_not_taken() -> None:
    with pytest.raises(HubTrouble, match="no GGUF"):
        choose(HubModel("a/b"), files("mmproj.gguf"))
    with pytest.raises(HubTrouble, match="lacks .*00002-of-00002"):
        choose(HubModel("a/b"), files(SHARDS[0]))
    with pytest.raises(HubTrouble, match="no checksum"):
        choose(HubModel("a/b"), files("a.gguf", sha256=""))
