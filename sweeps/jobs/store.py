"""Copy a sweep's folder to an object store or back, for pods whose files are lost with them.

usage: python -m sweeps.jobs.store FROM TO [--every SECONDS]
       FROM and TO: a folder, or s3://bucket/folder, gs://bucket/folder

Nothing happens where FROM does not exist. With --every, changes in the folder FROM are copied repeatedly until the
process is ended. Credentials are those that the cloud gives the pod's service account.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from pyarrow import fs


def copy(source: str, target: str) -> None:
    """Copy all files under `source`, replacing those that `target` already has. Raises OSError."""
    from_system, from_path = _located(source)
    to_system, to_path = _located(target)
    if from_system.get_file_info(from_path).type == fs.FileType.NotFound:
        return
    to_system.create_dir(to_path, recursive=True)
    fs.copy_files(from_path, to_path, source_filesystem=from_system, destination_filesystem=to_system)


class Follower:
    """Copies what is new in a folder since the last time."""

    def __init__(self, folder: str, target: str) -> None:
        self._folder, self._place = Path(folder), _located(target)
        self._copied: dict[Path, tuple[int, int]] = {}

    def copy(self) -> None:
        """Copy the files that are new or have changed. Raises OSError."""
        system, place = self._place
        for path in sorted(self._folder.rglob("*")):
            if not path.is_file():
                continue
            status = path.stat()
            state = status.st_size, status.st_mtime_ns
            if self._copied.get(path) == state:
                continue
            to = f"{place}/{path.relative_to(self._folder).as_posix()}"
            system.create_dir(to.rpartition("/")[0], recursive=True)
            fs.copy_files(str(path), to, source_filesystem=fs.LocalFileSystem(), destination_filesystem=system)
            self._copied[path] = state


def _located(place: str) -> tuple[fs.FileSystem, str]:
    system, path = fs.FileSystem.from_uri(place if "://" in place else Path(place).absolute().as_uri())
    return system, str(path)


def main() -> None:
    """Copy as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m sweeps.jobs.store", allow_abbrev=False)
    parser.add_argument("source", metavar="FROM")
    parser.add_argument("target", metavar="TO")
    parser.add_argument("--every", type=float, metavar="SECONDS")
    arguments = parser.parse_args()
    if arguments.every is None:
        return copy(arguments.source, arguments.target)
    follower = Follower(arguments.source, arguments.target)
    while True:
        time.sleep(arguments.every)
        try:
            follower.copy()
        except OSError as error:  # the next time may succeed, and the copy at the end reports a failure
            sys.stderr.write(f"warning: {arguments.target}: {error}\n")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"error: {error}")
