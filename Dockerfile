# The project and its pinned packages, for the head and the workers of a Ray cluster.
#   docker build --tag sweeps .                         for processors
#   docker build --tag sweeps-gpu --build-arg GPU=1 .   with CUDA's libraries
FROM python:3.11-slim-bookworm

# KubeRay checks a pod's health with wget. Debian keeps only the newest version, so it cannot be pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home sweeps \
    && install --directory --owner=sweeps /results

WORKDIR /sweeps
ARG GPU=""
COPY requirements.txt pyproject.toml ./
# Versions are pinned in requirements.txt; a GPU also needs CUDA's libraries.
RUN pip install --no-cache-dir --requirement requirements.txt \
    && if [ -n "$GPU" ]; then \
        pip install --no-cache-dir --constraint requirements.txt "tensorflow[and-cuda]"; \
    fi

COPY conf conf
COPY hydra_plugins hydra_plugins
COPY nets nets
COPY sweeps sweeps
COPY tracking tracking
RUN python -m compileall -q conf hydra_plugins nets sweeps tracking

USER 1000
CMD ["python", "sweeps/run.py", "--help"]
