"""The batch script of `cluster=slurm`: Ray on the nodes, the sweep on the first of them, and requeueing.

Its exit code: 0 every trial ok; 1 some trial failed; 2 nothing ran, as Ray did not start or the sweep was refused; 130
stopped before the time limit, with trials left. A job that requeues itself has none until its last start.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from sweeps.jobs.slurm.options import Options, directives, setup_lines
from sweeps.process.project import ROOT
from sweeps.typed import command_line
from tracking.folder.journal import RESULTS

_START_S = 300
"""How long nodes may take to join Ray, seconds."""
_LATE_S = 150
"""How much earlier than `stop_s` before the time limit a signal may come and still announce it, seconds."""


def text(options: Options, *, sweep_id: str, folder: Path, cwd: Path, arguments: Sequence[str]) -> str:
    """Return the batch script that runs the sweep in `folder` with these further arguments."""
    setup = setup_lines(options)
    if options.container is None:
        setup.append(f'export PATH={shlex.quote(options.venv or sys.prefix)}/bin:"$PATH"')
    inside = f"{options.container} " if options.container else ""
    resume = f"resume={command_line.text(str(folder))}"
    values = {
        "directives": "\n".join(f"#SBATCH {line}" for line in directives(options, sweep_id, folder)),
        "cwd": shlex.quote(str(cwd)),
        "setup": "\n".join(setup) or ":",
        "nodes": f"{inside}python -P {shlex.quote(str(ROOT / 'sweeps' / 'jobs' / 'slurm' / 'nodes.py'))}",
        "interface": shlex.quote(options.interface or ""),
        "ray": f"{inside}ray",
        "folder": shlex.quote(str(folder)),
        "results": RESULTS,
        "start_s": _START_S,
        "near_s": options.stop_s + _LATE_S,
        "requeue": options.requeue,
        "cpus": '"$(env -u OMP_NUM_THREADS nproc)"' if options.cpus is None else options.cpus,
        "gpus": options.gpus,
        "srun_cpus": "" if options.cpus is None else f" --cpus-per-task={options.cpus}",
        "sweep": f"{inside}python {shlex.quote(str(ROOT / 'sweeps' / 'run.py'))}",
        "arguments": " ".join(map(shlex.quote, [resume, "cluster=ray", *arguments])),
    }
    return _SCRIPT.format_map(values)


_SCRIPT = """\
#!/bin/bash
{directives}

# USR1: the time limit is near, or the job is preempted. The sweep stops cleanly, and the next start resumes it.
stop= signalled= ended= limit= child=
end_time() {{  # of the job, in seconds since 1970; nothing where it has no limit
    local at
    at=$(SLURM_TIME_FORMAT=standard squeue --noheader --jobs="$SLURM_JOB_ID" --format=%e)
    date +%s --date="${{at:-none}}"
}} 2> /dev/null
trap 'stop=1 signalled=1; [ -z "$child" ] || kill -TERM "$child"' USR1
attend() {{  # waits for the last child process and sets `code` to its exit code; a signal ends a wait early
    local last
    child=$!
    [ -z "$stop" ] || kill -TERM "$child"
    wait "$child"
    code=$?
    while [ -n "$signalled" ]; do
        signalled=
        wait "$child"
        last=$?
        [ "$last" -eq 127 ] || [ "$last" -eq 255 ] || code=$last
    done
    # If the child ends at the moment of a signal, bash may lose its code: the next start finds out what is left.
    [ "$code" -ne 138 ] || code=130
}}

cd {cwd} || exit 2
{setup}

folder={folder}
log="$folder/ray-$SLURM_JOB_ID.log"
mark=$(stat --format=%s "$log" 2> /dev/null || echo 0)  # what an earlier start has written
results() {{ wc -l < "$folder/{results}" || echo 0; }} 2> /dev/null
before=$(results)

# A token for this job alone: nobody else on these nodes can use its Ray.
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0

# Ports that the system has free right now, so that jobs may share a node.
read -r RAY_IP RAY_PORT RAY_CLIENT_PORT < <({nodes} address {interface}) || exit 2
export RAY_IP RAY_PORT RAY_CLIENT_PORT

ray_node() {{  # Ray on one node, for as long as the job step lives
    local temporary ip ray= over= code=1
    temporary=$(mktemp -d "/tmp/ray-$SLURM_JOB_ID-$SLURM_PROCID-XXXXXX") || exit 1  # nobody else may enter it
    # URG is the end of the job: the head ends last. TERM is scancel: all end at once.
    trap 'over=1; [ "$SLURM_PROCID" -gt 0 ] || sleep 2; [ -z "$ray" ] || kill "$ray"' URG
    trap 'over=1; [ -z "$ray" ] || kill -KILL "$ray"' TERM
    hold() {{  # until the last child process has ended
        ray=$!
        [ -z "$over" ] || kill "$ray"
        while kill -0 "$ray" 2> /dev/null; do wait "$ray"; done
        wait "$ray"
        code=$?
    }}
    local common=(--block --temp-dir="$temporary/r" --num-cpus={cpus} --num-gpus={gpus}
        --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0)
    if [ "$SLURM_PROCID" -eq 0 ]; then
        {ray} start --head --node-ip-address="$RAY_IP" --port="$RAY_PORT" \\
            --ray-client-server-port="$RAY_CLIENT_PORT" --include-dashboard=false "${{common[@]}}" &
        hold
    elif read -r ip _ < <({nodes} address {interface}); then
        {nodes} reach "$RAY_IP:$RAY_PORT" {start_s} &
        hold
        if [ "$code" -eq 0 ] && [ -z "$over" ]; then
            {ray} start --address="$RAY_IP:$RAY_PORT" --node-ip-address="$ip" "${{common[@]}}" &
            hold
        fi
    fi
    if [ -z "$over" ]; then
        grep -hE ' [CEF] [0-9]+ |[Ee]rror' "$temporary"/r/session_latest/logs/{{gcs_server,raylet}}.* \\
            2> /dev/null | tail -n 5
        echo "Ray ended on ${{SLURMD_NODENAME:-$HOSTNAME}}, exit code $code"
    fi
    rm -rf "$temporary"
    [ -n "$over" ] || exit "$code"
}}
export -f ray_node
# If a node fails, the others continue without it.
{{
    srun --export=ALL --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \\
        --ntasks-per-node=1{srun_cpus} --no-kill --wait=0 --kill-on-bad-exit=0 --cpu-bind=none --label \\
        bash -c ray_node
    echo "The job step ended, exit code $?"
}} >> "$log" 2>&1 &
nodes=$!
end_ray() {{
    scancel --signal=URG "$SLURM_JOB_ID"  # to ray_node; whatever else runs there ignores it
    for _ in {{1..20}}; do kill -0 "$nodes" 2> /dev/null || break; sleep 1; done
}}

limit=$(end_time)
# scancel signals the sweep itself. No command substitution here: it may make bash lose the child it waits for.
trap 'signalled=1; printf -v ended "%(%s)T" -1' TERM

preempted() {{ scontrol --oneliner show job "$SLURM_JOB_ID" | grep -q ' PreemptTime=[0-9]'; }} 2> /dev/null

again() {{  # after a clean stop: requeues the job, unless somebody has cancelled it
    [ {requeue} -gt 0 ] || return
    local now refusal
    now=$(date +%s)
    [ -n "$ended" ] || limit=$(end_time)  # which may have been changed
    if [ -n "$ended" ] && [ "$ended" -lt "${{limit:-$((now + 1))}}" ] && ! preempted; then return; fi
    if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {requeue} ]; then
        echo "Not requeued: it was requeued $SLURM_RESTART_COUNT times, and cluster.requeue={requeue} allows no more."
    elif [ "$(results)" -eq "$before" ] && [ $((${{limit:-$now + {near_s} + 1}} - now)) -le {near_s} ]; then
        echo "Not requeued: no trial finished within a whole time limit; a longer cluster.time is needed."
    elif refusal=$(scontrol requeue "$SLURM_JOB_ID" 2>&1); then
        echo "Requeued: the job continues with what is left when Slurm restarts it, in two minutes or later."
        sleep 60  # Slurm ends this script
    else
        echo "Not requeued: Slurm refuses it here ($refusal)."
    fi
}}

finish() {{  # the job, with this exit code
    end_ray
    [ -z "$stop$ended" ] || [ "$1" -ne 130 ] || again
    exit "$1"
}}

{nodes} wait "$RAY_IP:$RAY_PORT" "$SLURM_JOB_NUM_NODES" {start_s} "$log" "$mark" &
attend
[ -z "$stop" ] || finish 130
[ "$code" -eq 0 ] || finish 2

{sweep} {arguments} "cluster.address=$RAY_IP:$RAY_PORT" &
attend
child=
[ -z "$stop" ] || [ "$code" -ne 143 ] || code=130  # it was killed before it could handle the signal
finish "$code"
"""
