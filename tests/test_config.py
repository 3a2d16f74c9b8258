"""Settings: how layers become one, and what is refused."""

from __future__ import annotations

import pytest

from smart_monitor.config import KEYS, ConfigError, Settings, resolve
from smart_monitor.configfile import load


def test_nothing_given_is_the_defaults() -> None:
    settings, origin = resolve([])
    assert Settings() == settings
    assert {"default"} == set(origin.values())


def test_the_nearest_layer_wins_and_says_so() -> None:
    settings, origin = resolve([("file", {"loss_window": 20, "stall_after": 60}), ("flag", {"loss_window": "30"})])
    assert (30, 60.0) == (settings.loss_window, settings.stall_after)
    assert ("flag", "file") == (origin["loss_window"], origin["stall_after"])


def test_a_preset_is_weaker_than_a_key_beside_it_and_stronger_than_a_layer_below() -> None:
    settings, origin = resolve(
        [("file", {"loss_spike_threshold": 0.9}), ("flag", {"preset": "sensitive", "accuracy_drop_threshold": 7})]
    )
    assert (0.1, 7.0, 250) == (settings.loss_spike_threshold, settings.accuracy_drop_threshold, settings.min_steps_between_saves)
    assert "flag (preset sensitive)" == origin["loss_spike_threshold"]


@pytest.mark.parametrize(
    ("preset", "row"), [("sensitive", (0.1, 5, 250)), ("default", (0.3, 10, 500)), ("quiet", (0.5, 20, 1000))]
)
def test_the_presets_are_the_rows_of_the_guide(preset: str, row: tuple[float, float, int]) -> None:
    settings, _ = resolve([("file", {"min_steps_between_saves": 7}), ("flag", {"preset": preset})])
    assert row == (settings.loss_spike_threshold, settings.accuracy_drop_threshold, settings.min_steps_between_saves)


def test_the_preset_default_leaves_the_gate_to_the_length_of_the_run() -> None:
    settings, _ = resolve([("file", {"min_steps_between_saves": 7}), ("flag", {"preset": "default"})])
    assert "min_steps_between_saves" not in settings.given


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"los_window": 1}, "did you mean 'loss_window'"),
        ({"retentoin": {"keep": "lean"}}, "did you mean 'retention'"),
        ({"loss_window": 2.5}, "whole number"),
        ({"loss_window": 3}, "between 4 and 1000"),
        ({"loss_window": True}, "whole number"),
        ({"loss_spike_threshold": "nan"}, "must be a number"),
        ({"loss_spike_threshold": -1}, "at least 0"),
        ({"noise_guard": "maybe"}, "true or false"),
        ({"preset": "loud"}, "one of sensitive"),
        ({"preset": ["quiet"]}, "one of sensitive"),
        ({"disabled_rules": [1]}, "list of names"),
        ({"phase": {"until_step": 1}}, "array of tables"),
        ({"phase": [{}]}, "until_step"),
        ({"phase": [{"until_step": 5, "loss_window": 9}]}, "unknown setting 'loss_window'"),
        ({"phase": [{"until_step": 5, "loss_spike_treshold": 1}]}, "did you mean 'loss_spike_threshold'"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(layer: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match="file") as refused:
        resolve([("file", layer)])
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_phases_hold_up_to_their_step_in_any_order() -> None:
    phases = [{"until_step": 10_000, "loss_spike_threshold": 0.4}, {"until_step": 5000, "loss_spike_threshold": 0.5}]
    settings, _ = resolve([("file", {"phase": phases})])
    found = [settings.at(step).loss_spike_threshold for step in (0, 5000, 5001, 10_000, 10_001, None)]
    assert [0.5, 0.5, 0.4, 0.4, 0.3, 0.3] == found


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.metadata["why"] and field.metadata["group"] for field in KEYS.values())


def test_a_rule_to_be_switched_off_must_exist_and_the_nearest_name_is_told() -> None:
    with pytest.raises(ConfigError, match=r"disabled_rules: there is no rule 'loss_spik'; did you mean 'loss_spike'\?"):
        load(None, {}, None, {"SMART_MONITOR_DISABLED_RULES": "plateau,loss_spik"})

    assert load(None, {}, None, {"SMART_MONITOR_DISABLED_RULES": "plateau"})[0].disabled_rules == ("plateau",)
