"""The sentences at the top of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tracking.analysis.curves import PASS_TITLES
from tracking.analysis.peaks import exceeded_sentences
from tracking.analysis.samples import kind_of, samples_of
from tracking.names import host_name
from tracking.record import PASSES, Result, Sweep
from tracking.report import tasks
from tracking.report.failures import STATUS_WORDS
from tracking.report.wording import duration, listed, significant


def sentences(sweep: Sweep, results: Sequence[Result], names: Mapping[str, str]) -> list[str]:
    """How many trials succeeded, where and in what time; what failed; the best figures; how many are in doubt."""
    good = [result for result in results if result.ok]
    total = max(len(sweep.trials), len(results))
    summary = [f"{len(good):,} of {total:,} trials measured{_where(results)}{_in_what_time(results)}."]
    bad = Counter(result.status for result in results if not result.ok)
    if bad:
        summary.append(listed([f"{count} {STATUS_WORDS[status]}" for status, count in bad.items()]) + ".")
    if total > len(results):
        summary.append(f"{total - len(results)} have no result yet.")
    summary += _fastest(good, names)
    summary += tasks.best(sweep, results, names)
    summary += exceeded_sentences(results)
    doubtful = sum(bool(result.quality) for result in good)
    if doubtful:
        summary.append(f"{doubtful} {'has' if doubtful == 1 else 'have'} doubtful figures: see the verdicts.")
    return summary


def _where(results: Sequence[Result]) -> str:
    hosts = sorted({name for result in results if (name := host_name(result))})
    return f" on {listed(hosts)}" if hosts else ""


def _in_what_time(results: Sequence[Result]) -> str:
    started = [result for result in results if result.started_at]
    if not started:
        return ""
    end = max(result.started_at + result.wall_s for result in started)
    return f" in {duration(end - min(result.started_at for result in started))}"


def _fastest(good: Sequence[Result], names: Mapping[str, str]) -> list[str]:
    """For each pass that several trials timed, a sentence on the one with the highest rate.

    The rate is of tokens where every length is known, since longer samples take longer, else of samples.
    """
    sentences = []
    for name in PASSES:
        timed = [result for result in good if name in result.passes]
        if len(timed) < 2:
            continue
        counts = {result.trial_id: samples_of(result).count for result in timed}
        tokens = {result.trial_id: each for result in timed if (each := samples_of(result).tokens) is not None}
        amounts, unit = (tokens, "tokens") if tokens.keys() == counts.keys() else (counts, kind_of(timed))
        rates = {result.trial_id: amounts[result.trial_id] / result.passes[name].mean_s for result in timed}
        best = max(rates, key=rates.__getitem__)
        sentences.append(
            f"Highest throughput {PASS_TITLES[name]}: {names[best]} with {significant(rates[best])} {unit}/s."
        )
    return sentences
