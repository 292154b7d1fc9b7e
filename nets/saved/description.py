"""Reads how a `.keras` or `.h5` file describes its model, and unpacks the file once that is known to be harmless.

A `.keras` is a zip of the description, the weights and, for some layers, vocabularies. An `.h5` has the description in
an attribute of the file.
"""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from nets.saved.kinds import SavedModelError, kind_of
from nets.weights import hdf5, legacy_h5
from nets.weights.errors import WeightsError, one_line

MODEL, WEIGHTS, _ASSETS = "config.json", "model.weights.h5", "assets/"
_MOST_TEXT = 64 * 2**20
"""Bytes; the description of a net of a thousand layers takes about one megabyte."""
_MOST_EXPANSION = 1000
"""Descriptions repeat themselves, and are deflated better than weights."""
OF_MODEL, OF_TRAINING = "model_config", "training_config"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file raises into SavedModelError, with its path."""
    try:
        yield
    except SavedModelError:
        raise
    except WeightsError as error:
        raise SavedModelError(f"{path}: {error}") from error
    except Exception as error:  # a damaged file raises almost anything
        raise SavedModelError(f"{path}: expected a saved model. Received: a damaged file: {one_line(error)}") from error


def read(path: Path) -> dict[str, Any]:
    """Return the parts of the description by their names: `config.json`, or the attributes of an HDF5 file.

    Raises SavedModelError. Nothing is unpacked, and nothing that the file says is done.
    """
    with reading(path):
        if kind_of(path) == "h5":
            return _of_h5(path)
        with _archive(path) as archive:
            return {MODEL: _json(path, archive.read(_bounded(path, archive.getinfo(MODEL), _MOST_EXPANSION)))}


def write(path: Path, description: dict[str, Any], folder: Path) -> Path:
    """Unpack the saved model into the folder with this description of it, and return the path that Keras loads."""
    with reading(path):
        return _write_h5(path, description, folder) if kind_of(path) == "h5" else _unpack(path, description, folder)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    if not zipfile.is_zipfile(path):
        raise SavedModelError(f"{path}: expected a .keras file, which is a zip archive. Received: something else")
    with zipfile.ZipFile(path) as archive:
        names = {member.filename for member in archive.infolist()}
        for member in archive.infolist():
            _expect_inside(path, member)
        if len(names) < len(archive.infolist()):
            raise SavedModelError(f"{path}: expected files of different names in it. Received: two of the same name")
        if missing := [name for name in (MODEL, WEIGHTS) if name not in names]:
            raise SavedModelError(
                f"{path}: expected {' and '.join(missing)} in it. Received: neither or another format"
            )
        yield archive


def _expect_inside(path: Path, member: zipfile.ZipInfo) -> None:
    """Raise SavedModelError for a member that would be unpacked elsewhere, or is a link."""
    name = member.filename
    place = PurePosixPath(name)
    outside = place.is_absolute() or ".." in place.parts or "\\" in name or "\0" in name or ":" in name
    kind = stat.S_IFMT(member.external_attr >> 16)
    if outside or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "one that leads out of the archive" if outside else "a link"
        raise SavedModelError(f"{path}: expected plain files in it. Received: {what}: {name[:100]!r}")


def _bounded(path: Path, member: zipfile.ZipInfo, expansion: int) -> zipfile.ZipInfo:
    """Return a member that is stored or deflated and of a plausible size. Raises SavedModelError."""
    plain = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    most = hdf5.SLACK + expansion * member.compress_size
    if member.filename != WEIGHTS:
        most = min(most, _MOST_TEXT)
    if not plain or member.file_size > most:
        raise SavedModelError(
            f"{path}: expected {member.filename} to be stored or deflated, and of a plausible size. "
            f"Received: {member.file_size / 2**20:,.0f} MB from {member.compress_size:,} bytes"
        )
    return member


def _unpack(path: Path, description: dict[str, Any], folder: Path) -> Path:
    with _archive(path) as archive:
        for member in archive.infolist():
            if member.is_dir() or not (member.filename == WEIGHTS or member.filename.startswith(_ASSETS)):
                continue
            _bounded(path, member, hdf5.MOST_EXPANSION)
            target = folder / member.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)  # at most the size that was checked
    hdf5.look_over(folder / WEIGHTS, 0, path)
    (folder / "metadata.json").write_text("{}", encoding="utf-8")
    (folder / MODEL).write_text(json.dumps(description[MODEL]), encoding="utf-8")
    return folder


def _of_h5(path: Path) -> dict[str, Any]:
    if not legacy_h5.is_hdf5(path):
        raise SavedModelError(f"{path}: expected an HDF5 file. Received: something else")
    with hdf5.opened(path, 0) as file:
        texts = {key: file.attrs[key] for key in (OF_MODEL, OF_TRAINING) if key in file.attrs}
    if OF_MODEL not in texts:
        raise SavedModelError(
            f"{path}: expected a whole model. Received: weights only; set model=NAME model.weights={path} with the "
            "net's name"
        )
    return {key: _json(path, text) for key, text in texts.items()}


def _write_h5(path: Path, description: dict[str, Any], folder: Path) -> Path:
    copy = folder / "model.h5"
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        for key in (OF_MODEL, OF_TRAINING):
            if key in file.attrs:
                del file.attrs[key]
            if key in description:
                file.attrs[key] = json.dumps(description[key])
    hdf5.look_over(copy, 0, path)
    return copy


def _json(path: Path, text: Any) -> dict[str, Any]:
    if not isinstance(text, str | bytes) or len(text) > _MOST_TEXT:
        raise SavedModelError(f"{path}: expected the model's description to be text of at most {_MOST_TEXT >> 20} MB")
    value = json.loads(text)
    if not isinstance(value, dict):
        raise SavedModelError(f"{path}: expected the model's description. Received: a {type(value).__name__}")
    return value
