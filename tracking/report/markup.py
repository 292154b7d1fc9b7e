"""Text for the report's page."""

from __future__ import annotations

import base64
import hashlib
import html

from tracking.text.printable import printable_lines


def escape(text: str) -> str:
    """The text as HTML, within an element or a quoted attribute; what cannot be seen, as an escape that can."""
    return html.escape(printable_lines(text))


def source_hash(content: str) -> str:
    """What a page's policy calls a script or a style of this content, and so permits nothing else."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
