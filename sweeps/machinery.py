"""What a session starts once and stops together: the fork server, the site where trials run, and the sinks.

Fork server, Ray and the sinks' libraries take seconds each; they start side by side.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from sweeps.cluster import Cluster, Site, Surroundings
from sweeps.worker.forkserver import LastingServer
from tracking.sinks import registry
from tracking.sinks.outbox import Outbox


class Machinery:
    """The fork server, the site and the sinks of one session."""

    def __init__(self, server: LastingServer, warn: Callable[[str], None]) -> None:
        self.server = server
        self._warn = warn
        self._site: Site | None = None
        self._outbox: Outbox | None = None
        self._open = contextlib.ExitStack()

    def site(self, cluster: Cluster, folder: Path) -> Site:
        """Return the site of this session, opened on the first call; `folder` is where the sweep was started.

        Raises UsageError where it cannot be opened.
        """
        if self._site is None:
            self._site = cluster.site(Surroundings(self.server.address, self._warn, folder))
            self._open.callback(self._site.close)
        return self._site

    def start(self, settings: registry.Settings, *, dry_run: bool) -> Outbox:
        """Start everything once, and return the sinks. A dry run needs only the fork server.

        Raises UsageError where something cannot be started.
        """
        if self._outbox is not None:
            return self._outbox
        self._outbox = Outbox(registry.make_sinks(settings))
        self.server.start()
        imports = None if dry_run else self._outbox.preload()
        if self._site is not None and not dry_run:
            self._site.start()
        self.server.address()
        if imports is not None:
            imports.join()
        return self._outbox

    def close(self) -> None:
        """Stop what was started, except the sinks, which the recorder closes."""
        self._open.close()
