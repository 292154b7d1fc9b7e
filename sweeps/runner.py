"""Runs the trials of a session: each result is judged, journaled, sent and shown as it arrives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from sweeps.cluster import Site
from sweeps.dispatch.calibration import Calibration
from sweeps.dispatch.context import Context
from sweeps.errors import StoppedError
from sweeps.machine.node import Node
from sweeps.plan.stopping import StopRules, rules
from sweeps.process.interrupts import Interrupts
from sweeps.recorder import Recorder
from sweeps.screen.terminal import Terminal
from tracking.analysis.doubts import Hosts
from tracking.record import Trial


class Runner:
    """Runs trials at a site. What it learns about devices and hosts applies to all later trials of the session."""

    def __init__(self, terminal: Terminal, interrupts: Interrupts) -> None:
        self._terminal, self._interrupts = terminal, interrupts
        self._calibration = Calibration()
        self._hosts = Hosts()
        self._stop_rules: StopRules | None = None
        self._noted: set[str] = set()
        """Ids of the results that the stop rules have taken into account."""

    def run(
        self,
        trials: Sequence[Trial],
        cfg: DictConfig,
        recorder: Recorder,
        *,
        site: Site,
        node: Node,
        server: Callable[[], str],
    ) -> None:
        """Run the trials at `site` and record each result; `node` is used where there is only one.

        `server` returns the address of this machine's fork server. Raises StoppedError by a stop rule, JournalError
        when results can no longer be saved, DispatchError when the site is lost.
        """
        progress = self._terminal.progress
        stop_rules = self._stop_rules = self._stop_rules or rules(cfg)
        still_to_run = {trial.trial_id for trial in trials}
        for trial_id, result in recorder.results.items():
            self._hosts.judge(result)
            if trial_id not in still_to_run and trial_id not in self._noted:
                self._noted.add(trial_id)
                stop_rules.recall(result)
        if reason := stop_rules.reason_to_stop():
            raise StoppedError(reason)
        context = Context(
            sweep_id=recorder.sweep.sweep_id,
            folder=Path(recorder.sweep.folder),
            server=server,
            node=node,
            calibration=self._calibration if cfg.calibrate else None,
            retries=cfg.retries,
            limit=stop_rules.limit,
            started=progress.started,
            withdrawn=progress.withdrawn,
            held_up=progress.held_up,
            retrying=progress.retrying,
            warn=self._terminal.warn,
        )
        with progress.running(trials, context.log), contextlib.closing(site.run(trials, context)) as results:
            for result in results:
                judged = self._hosts.judge(self._calibration.judge(result))
                with self._interrupts.held():
                    recorder.record(judged)
                progress.finished(judged)
                recorder.send()
                progress.waiting(recorder.outbox.pending())
                self._noted.add(judged.trial_id)
                stop_rules.note(judged)
                if (reason := stop_rules.reason_to_stop()) and not recorder.all_ok:
                    raise StoppedError(reason)
