"""Keys are kept out of what is told."""

from __future__ import annotations

import pytest

from rlm_integrations.engine.secrets import keys_in, without_credentials, without_keys


def test_keys_are_found_by_their_names_wherever_settings_hold_them() -> None:
    settings = {
        "model": "openai/a-model",
        "api_key": "the-api-key",
        "aws_secret_access_key": "the-aws-secret",
        "extra_headers": {"Authorization": "Bearer the-bearer", "X-Api-Key": "the-header-key", "Accept": "all of it"},
        "extra_body": {"nested": {"session_token": "the-session"}},
        "api_base": "https://ada:pass%40word@host/v1?key=the-query-key",
        "timeout": 5,
        "api_token": None,
    }
    text = " ".join(map(str, settings.values()))
    text += " pass@word the-bearer"
    told = without_keys(text, keys_in(settings))
    secret = ("the-", "pass")
    assert not [word for word in secret if word in told.replace("openai/a-model", "")]
    assert "all of it" in told
    assert "openai/a-model" in told


def test_keys_of_the_environment_are_blotted_out_but_no_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "abcdefgh")
    monkeypatch.setenv("SOME_API_KEY_2", "not one by its name")
    monkeypatch.setenv("OTHER_TOKEN", "abcdefghij")
    monkeypatch.setenv("SHORT_API_KEY", "any")
    assert without_keys("any abcdefghij, abcdefgh, not one by its name") == "any [key], [key], not one by its name"


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("http://host:8080/v1", "http://host:8080/v1"),
        ("https://ada:secret@host/v1?key=x#y", "https://host/v1"),
        ("http://[broken", ""),
    ],
)
def test_an_address_loses_its_credentials(url: str, clean: str) -> None:
    assert without_credentials(url) == clean
    assert not list(keys_in({"api_base": clean}))
