"""Where this project is on disk."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds `sweeps`, `nets`, `tracking` and `conf`."""
