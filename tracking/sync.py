"""Bring a sweep's sinks up to date with its journal: `python tracking/sync.py SWEEP_DIR`.

For a sweep whose MLflow was away, or whose driver was killed: then it draws the plots and writes the report as well. It
may run any number of times, even several at once: they wait for each other, and what is there already stays as it is.
Exit codes: 0 everything is there; 1 something could not be sent, or the sweep is still running; 2 bad usage, or no
sweep in that folder.
"""

from __future__ import annotations

import argparse
import logging
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # Python puts the script's folder there, whose modules nobody imports by their bare names.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tracking import startup
from tracking.folder.journal import RESULTS, Journal, JournalError, LockedError, locked
from tracking.record import Result, Sweep
from tracking.sinks import trust
from tracking.sinks.mlflow import moved
from tracking.sinks.mlflow.client import DEFAULT_URI, given_address
from tracking.sinks.outbox import Outbox
from tracking.sinks.registry import Settings, SettingsError, make_sinks
from tracking.sinks.registry import stored as kept
from tracking.text.redact import is_redacted
from tracking.text.screen import complain, say

SYNC_LOCK = "sync.lock"


def main(arguments: Sequence[str] | None = None) -> int:
    """Sync one folder; the exit code."""
    parser = argparse.ArgumentParser(description="Bring a sweep's MLflow runs and tables up to date with its journal.")
    parser.add_argument("folder", metavar="SWEEP_DIR", type=Path, help="the folder that holds plan.json")
    parser.add_argument("--uri", help="MLflow's address, instead of the sweep's own")
    parser.add_argument("--experiment", help="MLflow's experiment, instead of the sweep's own")
    parser.add_argument(
        "--trust", action="store_true", help="send to the address in the plan, although the folder is another user's"
    )
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    try:
        plan = Journal(folder).read_plan()
        sweep = moved.follow(plan, folder)
        chosen = choose(sweep, options.uri, options.experiment)
        outbox = Outbox(make_sinks(chosen))
    except (JournalError, SettingsError) as error:
        complain(str(error))
        return 2
    uri = chosen.get("mlflow", {}).get("uri", DEFAULT_URI) if "mlflow" in chosen and not options.uri else None
    if not options.trust and (doubt := trust.misgivings(plan, folder, uri)) and not trust.agreed(doubt):
        complain(f"expected the address with --uri or in MLFLOW_TRACKING_URI, or --trust. Received: {doubt}")
        return 2
    try:
        with locked(folder / SYNC_LOCK), Journal(folder) as journal:
            results = journal.read()
            drawn = complete(sweep, results, folder)
            outbox.open(sweep)
            outbox.close(sweep, results)
    except LockedError as error:
        complain(f"the sweep is still running, and sends its results itself ({error})")
        return 1
    except JournalError as error:
        complain(str(error))
        return 2
    pending = outbox.pending()
    for sink, count, reason in pending:
        lacks = f"lacks {count} of {len(results)} results" if count else "is not complete"
        complain(f"{sink} {lacks}: {reason}")
    done = {str(sink) for sink in outbox.sinks} - {behind.sink for behind in pending}
    if done:
        say(f"{len(results)} results of {len(sweep.trials)} planned trials are in {' and '.join(sorted(done))}")
    return 1 if pending or not drawn else 0


def complete(sweep: Sweep, results: Sequence[Result], folder: Path) -> bool:
    """Draw the plots and write the report if they are missing or older than the journal; False if that fails.

    Both are complete once the report is there, since it is written last.
    """
    report_file, journal_file = folder / "report.html", folder / RESULTS
    if not results or _written_at(report_file) >= _written_at(journal_file):
        return True
    from tracking.plots import sweep_plots
    from tracking.report import html_page  # Here, because matplotlib takes a second.

    try:
        sweep_plots.draw(sweep, results, folder)
        html_page.write(sweep, results, report_file)
    except Exception as error:  # The results matter more than their pictures.
        complain(f"the plots and the report could not be written: {error}")
        return False
    return True


def _written_at(file: Path) -> int:
    """When the file was written, in nanoseconds; 0 where there is no regular file."""
    try:
        status = file.lstat()
    except OSError:
        return 0
    return status.st_mtime_ns if stat.S_ISREG(status.st_mode) else 0


def choose(sweep: Sweep, uri: str | None, experiment: str | None) -> Settings:
    """The sweep's own settings, with MLflow at this address and experiment where one of them is given.

    MLFLOW_TRACKING_URI is taken only where the sweep's own settings name MLflow, or nothing, without a whole address.
    Raises SettingsError for no sink at all, and for a database whose folder is gone.
    """
    chosen: Settings = {name: dict(arguments) for name, arguments in kept(sweep.facts).items()}
    stored = str(chosen.get("mlflow", {}).get("uri") or "")
    if uri is None and ("mlflow" in chosen or not chosen) and (not stored or is_redacted(stored)):
        uri = given_address()
    elif uri is None and (problem := moved.lost(stored)):
        raise SettingsError(f"{problem}; name one with --uri")
    replaced = {key: value for key, value in (("uri", uri), ("experiment", experiment)) if value}
    if replaced:
        chosen["mlflow"] = chosen.get("mlflow", {}) | replaced
    if not chosen:
        raise SettingsError("the sweep was run without sinks (tracking=none); name a server with --uri")
    return chosen


if __name__ == "__main__":
    startup.prepare()
    # `main` reports once, at the end, what the outbox would warn of.
    logging.getLogger("tracking.sinks.outbox").setLevel(logging.CRITICAL)
    sys.exit(main())
