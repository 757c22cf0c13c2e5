"""Settings take only what makes sense, and come back from TOML as they were."""

from __future__ import annotations

import pytest

from core.settings import Settings, SettingsError, dump_settings, load_settings


def test_settings_come_back_as_they_were() -> None:
    settings = Settings(storage_cap_gb=12.5, drop_only_copies=True, hub_endpoint="http://127.0.0.1:8080/mirror")
    assert load_settings(dump_settings(settings)) == settings
    assert load_settings(b"") == Settings()


@pytest.mark.parametrize(
    "line",
    [
        "storage_cap_gb = -1",
        'hub_endpoint = "ftp://hub"',
        'hub_endpoint = "https://user:secret@hub"',
        'hub_endpoint = "https://hub/?token=x"',
        'hub_endpoint = ""',
    ],
)
def test_a_setting_that_makes_no_sense_is_named(line: str) -> None:
    with pytest.raises(SettingsError, match=line.partition(" ")[0]):
        load_settings(line.encode())
