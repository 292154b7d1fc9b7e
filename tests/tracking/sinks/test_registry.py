from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.support.records import make_result, make_sweep
from tracking.sinks.csv_table import CsvSink
from tracking.sinks.mlflow.sink import MlflowSink
from tracking.sinks.parquet_table import ParquetSink
from tracking.sinks.registry import SettingsError, make_sinks, settings, storable
from tracking.text.redact import is_redacted, redact

CONF = Path(__file__).parents[3] / "conf" / "tracking"


def composed(name: str, overrides: Sequence[str] = ()) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, list(overrides))


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("mlflow", [CsvSink, MlflowSink]), ("csv", [CsvSink]), ("parquet", [ParquetSink]), ("none", [])],
)
def test_every_choice_makes_its_sinks(name: str, kinds: list[type]) -> None:
    assert {path.stem for path in CONF.iterdir()} == {"mlflow", "csv", "parquet", "none"}
    assert [type(sink) for sink in make_sinks(settings(composed(name)))] == kinds


def test_default_is_a_database_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings(composed("mlflow")) == {
        "mlflow": {"uri": f"sqlite:///{tmp_path}/mlflow.db", "experiment": "sweeps"},
        "csv": {},
    }
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert settings(composed("mlflow"))["mlflow"]["uri"] == "http://host:5000"
    overrides = ["uri=http://other:1", "experiment=mine", "sinks=[mlflow,parquet]"]
    assert settings(composed("mlflow", overrides)) == {
        "mlflow": {"uri": "http://other:1", "experiment": "mine"},
        "parquet": {},
    }


def test_plain_mapping_will_do() -> None:
    assert settings(OmegaConf.to_container(composed("csv"))) == {"csv": {}}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tracking", "sentence"),
    [
        ({"sinks": ["mlfow"]}, r"among csv, mlflow, parquet. Received: 'mlfow'; did you mean 'mlflow'\?"),
        ({"sinks": "mlflow"}, r"expected tracking.sinks to be a list such as \[mlflow,csv\]. Received: 'mlflow'"),
        (
            {"sinks": ["mlflow"], "uri": "http://[::1"},
            r"expected tracking.uri to be an address. Received: 'http://\[::1'",
        ),
        ({"sinks": ["mlflow"], "uri": "sqlite:///a\0b"}, r"expected tracking.uri to be an address. Received: 'sqlite"),
        ({"sinks": ["mlflow"], "uri": 5}, r"expected tracking.uri to be text such as .* Received: 5"),
        ({"sinks": ["mlflow"], "experiment": ""}, r"expected tracking.experiment to be text .* Received: ''"),
        ({"sinks": ["mlflow"], "uri": "sqlite://"}, r"outlives the sweep. Received: sqlite://, a database in memory"),
        ({"sinks": ["mlflow"], "uri": "sqlite:///:memory:"}, r"outlives the sweep. Received: sqlite:///:memory:, a"),
    ],
)
def test_bad_settings_are_one_sentence(tracking: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        settings(tracking)


def test_passwords_are_not_stored() -> None:
    chosen = settings({"sinks": ["mlflow", "csv"], "uri": "https://me:hush@host:5000/path"})
    kept = storable(chosen)
    assert kept == {"mlflow": {"uri": "https://***@host:5000/path", "experiment": "sweeps"}, "csv": {}}
    assert is_redacted(kept["mlflow"]["uri"])
    with pytest.raises(SettingsError, match="kept without its password"):
        make_sinks(kept)
    assert len(make_sinks(chosen)) == 2


def test_stored_settings_of_another_version_are_one_sentence() -> None:
    with pytest.raises(SettingsError, match="expected the settings of"):
        make_sinks({"csv": {"colour": "red"}})


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://t0ken@host/x", "https://***@host/x"),
        ("postgresql://me@host/db, https://host/@x", "postgresql://me@host/db, https://host/@x"),
        ("http://me:hush@host/x", "http://***@host/x"),
        ("http://me:p@ss:w@host", "http://***@host"),
        ("postgresql+psycopg2://me:hush@host:5432/db", "postgresql+psycopg2://***@host:5432/db"),
        ("run 'http://a:b@c' and http://d:e@f.", "run 'http://***@c' and http://***@f."),
        ("http://host:5000/@user:x", "http://***@user:x"),
        ("postgresql://u:s3/cr3t@db/x", "postgresql://***@db/x"),
        ("uri='postgresql://u:s/c?r#t@db/x' batch=1", "uri='postgresql://***@db/x' batch=1"),
        (
            "postgresql://db/x?user=u&password=p@ss:w&sslmode=require",
            "postgresql://db/x?user=u&password=***&sslmode=require",
        ),
        ("postgresql://db:5432/x?sslpassword=p@ss&passwd=q", "postgresql://db:5432/x?sslpassword=***&passwd=***"),
        ("http://host:5000/?a=1&TOKEN=x&secret=y", "http://host:5000/?a=1&TOKEN=***&secret=***"),
        ("postgresql://u:a/b@db/x?password=c@d", "postgresql://***@db/x?password=***"),
        ("http://host/?tokens=3", "http://host/?tokens=3"),
        ("sqlite:////a/b@c:d", "sqlite:////a/b@c:d"),
    ],
)
def test_redact(text: str, clean: str) -> None:
    assert redact(text) == clean
    assert redact(clean) == clean
    assert is_redacted(clean) == ("***" in clean)


def test_a_table_keeps_its_rows_when_a_sweep_goes_on(tmp_path: Path) -> None:
    results = [make_result(batch=batch) for batch in (1, 2)]
    sweep = make_sweep(results, tmp_path)
    for result in results:
        sink = CsvSink()
        sink.open(sweep)
        sink.write(result)
    one_after_another = (tmp_path / "results.csv").read_text()
    sink.close(sweep, results)
    assert (tmp_path / "results.csv").read_text() == one_after_another
    assert one_after_another.count("\n") == 5


def test_a_damaged_table_is_begun_anew(tmp_path: Path) -> None:
    result = make_result()
    (tmp_path / "results.csv").write_bytes(b"trial_id\xff,\n1,2,3\n")
    sink = CsvSink()
    sink.open(make_sweep([result], tmp_path))
    sink.write(result)
    assert (tmp_path / "results.csv").read_text().startswith("trial_id,name,model")
