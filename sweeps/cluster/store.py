"""Copy a sweep's folder to an object store or back, for pods whose own files do not last.

usage: python -m sweeps.cluster.store FROM TO      each a folder, or s3://bucket/folder, gs://bucket/folder

Nothing happens where FROM does not exist. Credentials are those that the cloud gives the pod's service account.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyarrow import fs


def copy(source: str, target: str) -> None:
    """Copy all files under `source`; a file that `target` has already is replaced. Raises OSError."""
    from_system, from_path = _located(source)
    to_system, to_path = _located(target)
    if from_system.get_file_info(from_path).type == fs.FileType.NotFound:
        return
    to_system.create_dir(to_path, recursive=True)
    fs.copy_files(from_path, to_path, source_filesystem=from_system, destination_filesystem=to_system)


def _located(place: str) -> tuple[fs.FileSystem, str]:
    system, path = fs.FileSystem.from_uri(place if "://" in place else Path(place).absolute().as_uri())
    return system, str(path)


if __name__ == "__main__":
    try:
        copy(*sys.argv[1:])
    except OSError as error:
        sys.exit(f"error: {error}")
