from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweeps.plan import node_inputs
from sweeps.plan.node_inputs import Found, Wanted
from sweeps.plan.targets import Target
from tests.support.picture_data import make_shapes
from tracking.record import Trial


def no_server() -> str:
    raise AssertionError("nothing to ask")


def test_what_trials_need_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "words.txt").touch()
    args = {"vocabulary": "words.txt", "activation": "relu", "width": 3}
    trials = [Trial(model="net", batch=batch, target="my.net", weights="/w.npy", model_args=args) for batch in (1, 2)]
    trials += [Trial(model="tiny", batch=1, task="finetune", task_args={"data": "/photos", "labels": "/names"})]
    trials += [Trial(model="tiny", batch=1, task="classify", task_args={"images": ["/a.jpg", "/b/*"], "labels": None})]
    wanted = node_inputs.of_trials(trials, tmp_path)
    assert wanted == Wanted(
        files=("/w.npy", f"{tmp_path}/words.txt", "/names"),
        data=(("/photos", "/names"),),
        images=("/a.jpg", "/b/*"),
        targets=(Target("my.net", args),),
    )
    assert not node_inputs.of_trials([Trial(model="tiny", batch=1)], tmp_path)


def test_a_node_says_what_is_missing_and_tells_contents_apart(tmp_path: Path) -> None:
    photos = make_shapes(tmp_path / "photos", 2, ("disc", "ring"))
    weights, fifo = tmp_path / "w.npy", tmp_path / "pipe"
    weights.write_bytes(b"x" * 100)
    os.mkfifo(fifo)
    wanted = Wanted(
        files=(str(weights), str(fifo), f"{tmp_path}/no.txt"),
        data=((str(photos), None), (f"{tmp_path}/nowhere", None)),
        images=(f"{photos}/disc", f"{tmp_path}/*.jpg"),
    )
    first = node_inputs.look(wanted, no_server)
    nothing = "a path where there is none"
    assert first.missing == {
        str(fifo): "a named pipe",
        f"{tmp_path}/no.txt": nothing,
        f"{tmp_path}/nowhere": nothing,
        f"{tmp_path}/*.jpg": nothing,
    }
    assert first.digests.keys() == {str(weights), str(photos), f"{photos}/disc"}
    assert node_inputs.look(wanted, no_server) == first
    weights.write_bytes(b"y" * 100)
    next((photos / "ring").iterdir()).write_bytes(b"cut short")
    second = node_inputs.look(wanted, no_server)
    changed = {key for key, digest in second.digests.items() if digest != first.digests[key]}
    assert changed == {str(weights), str(photos)}


def test_large_files_are_compared_by_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_inputs, "_WHOLE_MB", 1)
    path = tmp_path / "w.npy"
    seen = set()
    for place in (0, 50 * 2**20, 200 * 2**20 - 1):
        with path.open("wb") as file:
            file.truncate(200 * 2**20)
            file.seek(place)
            file.write(b"1")
        seen.add(node_inputs.look(Wanted(files=(str(path),)), no_server).digests[str(path)])
    assert len(seen) == 3


def test_all_nodes_are_in_one_sentence() -> None:
    nothing = {"/w.npy": "a path where there is none"}
    nodes = {f"n{i}": Found(missing=nothing) for i in range(1, 11)}
    assert node_inputs.problems(nodes) == ["/w.npy: expected on every node. Missing on: all 10 nodes."]
    nodes |= {"n11": Found(digests={"/w.npy": "a"}), "n2": Found(missing={"/w.npy": "a folder"})}
    assert node_inputs.problems(nodes) == [
        "/w.npy: expected on every node. Missing on: n1, n3, n4 (and 6 more).",
        "/w.npy: expected on every node. Received: a folder on n2.",
    ]
    lacks = "There is no module 'my'"
    assert node_inputs.problems(
        {"a": Found(imports={"model._target_=my.net": lacks}), "b": Found(imports={"model._target_=my.net": lacks})}
    ) == [
        f"model._target_=my.net: expected a callable that can be imported on a, b. Received: {lacks}; modules in the "
        "folder where the sweep is started travel, others have to be installed on the nodes."
    ]


def test_nodes_with_different_contents_are_reported_and_one_that_joins_is_held_to_the_others() -> None:
    nodes = {"a": Found(digests={"/w.npy": "1", "my.net": "5"}), "b": Found(digests={"/w.npy": "2", "my.net": "5"})}
    sentence = "/w.npy: expected the same file on every node. Received: that on a differs from that on b."
    assert node_inputs.problems(nodes) == [sentence]
    late = Found(digests={"/w.npy": "1", "my.net": "6"})
    assert node_inputs.of_late_joiner("c", late, nodes) == [
        "my.net: expected the same module on every node. Received: that on a differs from that on c."
    ]
    assert node_inputs.of_late_joiner("c", Found(missing={"/w.npy": "a folder"}), {}) == [
        "/w.npy: expected on every node. Received: a folder on c."
    ]


def test_a_saved_model_is_compared_with_all_files_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    (folder / "variables").mkdir(parents=True)
    trial = Trial(model="exported", batch=1, path=str(folder))
    wanted = node_inputs.of_trials([trial, Trial(model="my", batch=1, path=f"{tmp_path}/my.keras")], tmp_path)
    assert wanted.files == (str(folder), f"{tmp_path}/my.keras")
    found = node_inputs.look(wanted, no_server)
    assert found.missing == {str(folder): "a folder", f"{tmp_path}/my.keras": "a path where there is none"}
    seen = set()
    for graph, variables in (("a", "1"), ("b", "1"), ("b", "2")):
        (folder / "saved_model.pb").write_text(graph)
        (folder / "variables" / "variables.index").write_text(variables)
        found = node_inputs.look(wanted, no_server)
        assert str(folder) not in found.missing
        seen.add(found.digests[str(folder)])
    assert len(seen) == 3
