#!/usr/bin/env bash
# The tables of docs/gpu.md on this machine's first GPU, in ten minutes: JSON, CSV, Markdown, plots and a report.
# usage: benchmarks/gpu.sh [--minutes 9.5] [--out build/gpu]     PYTHON=... chooses another interpreter
# Another call with the same folder continues with the points that were left out.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
command -v "$python" > /dev/null || python=python3
command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv
exec "$python" benchmarks/gpu/tables.py "$@"
