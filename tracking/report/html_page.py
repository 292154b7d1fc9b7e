"""`report.html`: a whole sweep in one file that needs nothing else, neither a network nor a server.

`write` collects the page's values from the modules beside it, and Jinja2 puts them into the templates in `assets/`.
Text and tables are thus readable without scripts; the scripts in `assets/` sort, filter and draw the charts. Jinja2
escapes every value, and the page's content security policy lets it load nothing and run no scripts but these.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tracking.analysis.curves import PASS_TITLES
from tracking.folder import files
from tracking.names import sweep_name, trial_names
from tracking.record import Result, Sweep
from tracking.report import failures, layers, profile, provenance, summary, tasks, trial_table
from tracking.report.data import chart_data, trial_data
from tracking.report.wording import fixed, significant, thousands
from tracking.text.printable import printable_lines

_SCRIPTS = ("drawing.js", "chart.js", "table.js")
"""In the order in which they need each other."""


def write(sweep: Sweep, results: Sequence[Result], path: str | Path) -> None:
    """Write the report of `results` to `path`: below 8 MB for 1,000 trials, since step times are thinned."""
    planned = {trial.trial_id: position for position, trial in enumerate(sweep.trials)}
    results = sorted(results, key=lambda result: planned.get(result.trial_id, len(planned)))
    names = trial_names([*sweep.trials, *(result.trial for result in results)])
    style, script = _asset("style.css"), Markup().join(map(_asset, _SCRIPTS))
    page = environment().get_template("page.html")
    text = page.render(
        policy=Markup(f"style-src {_source_hash(style)}; script-src {_source_hash(script)}"),
        style=style,
        script=script,
        data={"passes": PASS_TITLES, "trials": trial_data(results, names), "charts": chart_data(results)},
        title=sweep_name(sweep.trials) if sweep.trials else f"Sweep {sweep.sweep_id}",
        summary=" ".join(summary.sentences(sweep, results, names)),
        failures=failures.failures(results, names),
        task=tasks.section(sweep, results, names),
        table=tasks.table(results, names) or trial_table.table(results, names),
        layers=layers.nets(results),
        profile=profile.profiled_passes(sweep, results, names),
        provenance=provenance.provenance(sweep, results),
    )
    files.write(Path(path).parent, Path(path).name, text.encode("utf-8", "backslashreplace"))


def environment() -> Environment:
    """The templates of `assets/`. A value that they name and do not get is an error (jinja2.UndefinedError)."""
    environment = Environment(
        loader=PackageLoader("tracking.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fixed": fixed, "significant": significant, "thousands": thousands}
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


def _visible(value: Any) -> Any:
    """The value of an expression; text with its control characters as escapes, except where it is markup already."""
    return printable_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> Markup:
    """A file of `assets/` that goes into the page as it is."""
    return Markup((resources("tracking.report") / "assets" / name).read_text("utf-8"))


def _source_hash(content: str) -> str:
    """The hash by which the page's policy permits a script or style of exactly this content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
