"""No secret is left in what is shown or kept, wherever it stands; ordinary text stays as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.sweep_command import plain_environment
from tracking.text.redact import MARK, is_redacted, redact, secrets_of

ROOT = Path(__file__).parents[3]
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
SCHEMES = ("http", "https", "postgresql", "postgresql+psycopg2", "mysql+pymysql", "mssql+pyodbc", "s3", "wasbs", "dbfs")
KEYS = (
    *("password", "sslpassword", "api_key", "apiKey", "access_key", "sig", "token", "auth", "client_secret"),
    *("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "X-Goog-Signature", "AccountKey"),
)
SWEEP = (
    "cluster=inline calibrate=false protocol=classic protocol.burn_in=1 protocol.steps=3 model=tiny batch=1 "
    "passes=[forward] hydra.output_subdir=.hydra hydra.run.dir=out"
)
SENTENCES = [
    "{}",
    "MLflow at {}: no answer",
    "tracking.uri={}",
    "could not reach '{}' (403); tell us",
    'run "{}" and look at http://other.example:5000/x',
    "python sweeps/run.py -m 'tracking.uri={}' batch=1,2",
    "(sqlalchemy.exc.ArgumentError) Could not parse URL from string '{}'\nTraceback",
]


WORDS = ("the", "sweep", "of", "vgg16", "batch=4", "50%", "me@example.org", "{'a':", "1}", "a/b.c", "x:y", "1:2")


def ours(secret: str, text: str) -> bool:
    """Return whether the secret is something that the rest of the text does not contain anyway."""
    return all(
        spelled.strip() and spelled not in text for spelled in (secret, quote(secret, safe=""), quote_plus(secret))
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(password=st.text(min_size=1), scheme=st.sampled_from(SCHEMES), sentence=st.sampled_from(SENTENCES))
def test_no_password_survives(password: str, scheme: str, sentence: str) -> None:
    if scheme in ("s3", "wasbs", "dbfs"):
        assume("://" not in password)
    for spelled in (
        (password, quote(password, safe=""), quote_plus(password)) if password.isprintable() else (password,)
    ):
        if any("\ud800" <= letter <= "\udfff" for letter in spelled):
            continue
        for address in (f"{scheme}://me:{spelled}@host.example:5432/db", f"{scheme}://me:{spelled}@host"):
            text = sentence.format(address)
            clean = redact(text)
            if ours(password, sentence.format(address.replace(f":{spelled}@", f"{MARK}@"))):
                assert spelled not in clean
                assert redact(clean) == clean


@settings(max_examples=EXAMPLES, deadline=None)
@given(secret=st.text(min_size=1), key=st.sampled_from(KEYS), sentence=st.sampled_from(SENTENCES))
def test_no_secret_of_a_query_survives(secret: str, key: str, sentence: str) -> None:
    assume(not any("\ud800" <= letter <= "\udfff" for letter in secret))
    spellings = {quote(secret, safe=""), quote_plus(secret)}
    if not set("&;\n\r") & set(secret):  # which end a parameter, or the line
        spellings.add(secret)
    for spelled in spellings:
        for rest in ("", "&sslmode=require"):
            address = f"https://host.example/path?sv=2020&{key}={spelled}{rest}"
            clean = redact(sentence.format(address))
            if ours(secret, sentence.format(address.replace(f"={spelled}", f"={MARK}"))):
                assert spelled not in clean
                assert redact(clean) == clean


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    words=st.lists(st.sampled_from(WORDS)),
    path=st.lists(st.text("abc %#?é.-_@:", min_size=1), min_size=1),
    address=st.sampled_from(
        [
            "http://tracker.example:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=sweeps",
            "http://127.0.0.1:5000", "https://me.example.org/a/b?x=1&y=2", "postgresql://me@db.example/sweeps",
            "wasbs://box@account.blob.core.windows.net/p", "s3://bucket/a", "gs://bucket/b", "databricks://profile",
            "ssh://git@example.org/x.git", "git@example.org:me/x.git", "expected key=value", "the token is 5",
            "inputs.tokens.high=30000", "seed_key_count=3",
        ]
    ),
)  # fmt: skip
def test_ordinary_text_stays(words: list[str], path: list[str], address: str) -> None:
    for place in ("/".join(["", *path]), f"sqlite:////{'/'.join(path)}/mlflow.db", f"file:///{'/'.join(path)}"):
        if {"?", "@"} & set(place) and place.startswith(("sqlite", "file")):
            continue
        text = " ".join([place, *words, address])
        assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://me:pa ss@host/db is away", "postgresql://***@host/db is away"),
        ("uri='postgresql://me:it's@host/db' batch=1", "uri='postgresql://***@host/db' batch=1"),
        ("at http://127.0.0.1:5000: ask me@example.org", "at http://127.0.0.1:5000: ask me@example.org"),
        ("https://a.example/c?sv=2020&sig=a%2Fb%3D&se=1", "https://a.example/c?sv=2020&sig=***&se=1"),
        ("AccountName=x;AccountKey=abc==;EndpointSuffix=core", "AccountName=x;AccountKey=***;EndpointSuffix=core"),
        ("https://h.example/?password=pa ss&x=1", "https://h.example/?password=***&x=1"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic dTpw'}", "{'Authorization': 'Basic ***'}"),
        ("a bearer eyJhbGciOi.x was refused", "a bearer *** was refused"),
        ("MLFLOW_TRACKING_TOKEN=abc python x", "MLFLOW_TRACKING_TOKEN=*** python x"),
        ('{"client_secret": "x y", "a": 1}', '{"client_secret": ***, "a": 1}'),
        ("+model.api_key=xyz batch=1", "+model.api_key=*** batch=1"),
        ("s3://AKIA:SECRET@bucket/x", "s3://***@bucket/x"),
        ("https://h.example/?q=x&api_key=a'bSECRET", "https://h.example/?q=x&api_key=***"),
        ("at 'https://h.example/?token=a;bSECRET' (403)", "at 'https://h.example/?token=***' (403)"),
        ("https://h.example/?api%5Fkey=a&%61pi_key=b&c=1", "https://h.example/?api%5Fkey=***&%61pi_key=***&c=1"),
        ("https://h.example/?api_key[]=a&api+key=b&sid=c", "https://h.example/?api_key[]=***&api+key=***&sid=***"),
        ("https://h.example/?pat=a&ssh_key=b&session_id=c", "https://h.example/?pat=***&ssh_key=***&session_id=***"),
        ("host=h password = 'SECRET' port=5", "host=h password = *** port=5"),
        ("{'token': b'SECRET', 'a': 1}", "{'token': ***, 'a': 1}"),
        ("run --token SECRET --batch 4", "run --token *** --batch 4"),
    ],
)
def test_forms(text: str, clean: str) -> None:
    assert redact(text) == clean
    assert redact(clean) == clean


def test_known_secrets_go_in_any_spelling() -> None:
    secrets = secrets_of("postgresql://me:p%40ss w'd@host/db?sslpassword=qu%20ery&x=1")
    for spelled in ("p%40ss w'd", "p@ss w'd", "p%40ss%20w%27d", "p%40ss+w%27d", "qu ery", "qu%20ery", "qu+ery"):
        clean = redact(f"said: {spelled}.", secrets)
        assert clean == "said: ***.", spelled
    assert redact("host db x", secrets) == "host db x"
    assert secrets_of("http://t0ken@host") == {"t0ken"}
    assert secrets_of("postgresql://me@host/db") == secrets_of("sqlite:////a:b@c") == set()


def test_what_was_taken_out_is_known_to_be() -> None:
    for address in ("http://u:p@h", "https://h.example/?api_key=x", "https://h.example/?a=1&sig=x y"):
        assert is_redacted(redact(address))
        assert not is_redacted(address)


def test_line_by_line_no_time_is_lost() -> None:
    """Backtracking over a long text would take minutes."""
    for text in (
        "http://" * 20_000,
        "a:@" * 50_000,
        "?token=" * 30_000,
        "http://u:" + "x " * 100_000,
        "bearer " * 30_000,
    ):
        redact(text)
    redact(Path(__file__).read_text() * 20)


def test_a_sweep_with_secrets_in_its_address_leaves_none_of_them(tmp_path: Path) -> None:
    """Nowhere: not in its folder, in Hydra's files, in what it prints, or beside it."""
    secrets = ("S3cr et'x", "Qu1ery", "T0ken", "Env1ron")
    uri = 'tracking.uri="http://me:S3cr et\'x@127.0.0.1:1/p?api_key=Qu1ery"'
    kept = plain_environment()
    env = kept | {"MLFLOW_TRACKING_TOKEN": "T0ken", "TF_MY_API_KEY": "Env1ron", "XLA_FLAGS": ""}
    run = [sys.executable, str(ROOT / "sweeps" / "run.py"), *SWEEP.split(), uri]
    done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "lacks 1 result: no answer" in done.stderr
    texts = {"stdout": done.stdout, "stderr": done.stderr}
    texts |= {str(path): path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file()}
    assert any("***" in texts[name] for name in texts if name.endswith("plan.json"))
    assert any("***" in texts[name] for name in texts if name.endswith("overrides.yaml"))
    for secret in (*secrets, "S3cr", "et'x", "S3cr%20et", "S3cr+et"):
        assert [name for name, text in texts.items() if secret in text] == [], secret
    resumed = ["resume=out"]
    again = subprocess.run([*run[:2], *resumed], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "expected the sweep's address with its password, here or in MLFLOW_TRACKING_URI" in again.stderr
