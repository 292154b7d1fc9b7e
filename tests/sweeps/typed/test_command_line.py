from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from sweeps.request import options
from sweeps.typed import command_line
from sweeps.typed.arguments import Arguments, key_of

CONF = Path(__file__).resolve().parents[3] / "conf"


def test_what_the_job_decides_itself_is_left_out() -> None:
    given = [
        "-m",
        "model=tiny",
        "batch=1,2",
        "+model.width=3",
        "cluster=ray_job",
        "cluster.follow=true",
        "dry_run=true",
    ]
    given += ["resume=latest", "hydra.sweep.dir=/x", "tracking.uri=http://a", "tracking.experiment=mine", "clusters=1"]
    kept = ["-m", "model=tiny", "batch=1,2", "+model.width=3", "tracking.experiment=mine", "clusters=1"]
    assert command_line.for_job(Arguments(program="sweeps/run.py", words=tuple(given))) == kept


def test_a_resumed_sweep_takes_only_what_is_not_in_its_plan() -> None:
    given = ["-m", "model=tiny", "tracking.sinks=[csv]", "tracking=csv", "fail_fast=2", "trackings=1", "rerun=failed"]
    assert command_line.resuming(given) == ["tracking.sinks=[csv]", "tracking=csv", "fail_fast=2", "rerun=failed"]


def composed(*overrides: str) -> dict[str, object]:
    options.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", list(overrides))
    return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("tracking=csv", "calibrate=false", "fail_fast=3", "oom_ceiling=false", "retries=0"),
        ("resume=latest", "rerun=failed"),
        ("tracking.uri='postgresql://host/db?sslmode=require'", "tracking.experiment='it\\'s mine, (all) of it'"),
    ],
)
def test_the_jobs_settings_are_those_of_this_command(overrides: tuple[str, ...]) -> None:
    values = composed(*overrides)
    arguments, environment = command_line.as_composed(values)
    assert environment == {}
    again = composed(*(["resume=latest"] if values["resume"] else []), *arguments)
    for key in ("tracking", "calibrate", "rerun", "retries", "oom_ceiling", "fail_fast"):
        assert again[key] == values[key]


def test_a_password_goes_into_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "postgresql://me:secret@host/db"
    arguments, environment = command_line.as_composed(composed(f"tracking.uri={uri}"))
    assert "secret" not in " ".join(arguments)
    assert environment == {"MLFLOW_TRACKING_URI": uri}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert composed(*arguments)["tracking"] == composed(f"tracking.uri={uri}")["tracking"]
    assert "tracking.uri" in map(key_of, arguments), "else the plan's own address would count"


@pytest.mark.parametrize(
    "value", ["plain", "two words", "a,b", "it's", "k=v", "{x}", "$HOME", "[1]", "null!", "é", "1e3", "007", "True"]
)
def test_text_is_read_by_hydra_as_it_was(value: str) -> None:
    parsed = OverridesParser.create().parse_override(f"key={command_line.text(value)}")
    assert parsed.value() == value


@pytest.mark.parametrize("value", ["a\\", "a\\'b", "\\\\'", "a\\b", "${oc.env:HOME}", "a ${x}\\", "\\${x}", "\\\\${x}"])
def test_backslashes_and_what_looks_like_an_interpolation_stay_as_they_were(value: str) -> None:
    parsed = OverridesParser.create().parse_override(f"key={command_line.text(value)}")
    assert OmegaConf.create({"key": parsed.value()}).key == value
