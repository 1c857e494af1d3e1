"""cluster.private_ray: Ray that does not come up in time is tried again, and then told in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.private_ray import start_private_ray
from gaugan.errors import UserError

SLOW = "The current node timed out during startup. This could happen because some of the raylet failed to startup."


def failing(monkeypatch: pytest.MonkeyPatch, *errors: Exception | None) -> list[dict[str, Any]]:
    """Makes ray.init raise these one after the other; returns what it is called with."""
    import ray

    calls: list[dict[str, Any]] = []

    def init(**settings: Any) -> None:
        calls.append(settings)
        if error := errors[len(calls) - 1]:
            raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return calls


def test_a_slow_start_is_tried_once_more_with_the_same_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = failing(monkeypatch, Exception(SLOW), None)
    start_private_ray(num_cpus=3)
    assert calls == [{"address": "local", "include_dashboard": False, "num_cpus": 3}] * 2
    assert "trying once more" in capsys.readouterr().out


def test_two_slow_starts_are_a_busy_machine_and_other_errors_are_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, Exception(SLOW), Exception(SLOW))
    with pytest.raises(UserError, match="too busy.*the same command again"):
        start_private_ray()
    failing(monkeypatch, ValueError("num_cpus"))
    with pytest.raises(ValueError, match="num_cpus"):
        start_private_ray()
