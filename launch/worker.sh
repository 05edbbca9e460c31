#!/usr/bin/env bash
# The commands that launch/tpu_vm.sh runs on each worker. Everything is in ~/mlp-mixer:
#   code/ venv/ wheels/   the commit, Python with packages, the packages; uv/ installs Python
#   run.lock              held while main.py runs
#   run.pid run.log       its process id, its output
#   run.asked run.end     exists if it was asked to stop; how it ended
set -euo pipefail

python=3.11 # for the wheels; a TPU VM itself has 3.10
home=$HOME/mlp-mixer
code=$home/code
PATH=$PATH:$home/uv/bin

fail() {
    echo "error: $*" >&2
    exit 1
}

# Installs uv in a folder of its own, as the system may forbid installing into its Python.
have_uv() {
    command -v uv >/dev/null ||
        python3 -m pip install --quiet --target "$home/uv" --require-hashes -r "$code/launch/uv.txt"
}

# FOLDER: its wheelhouse for this Python and these requirements, for all workers and restarts.
wheelhouse() {
    local texts
    texts=$(cat "$code"/requirements{,-tpu,-gcs}.txt | sha256sum)
    echo "${1%/}/py$python-${texts:0:12}"
}

# FOLDER: fills its wheelhouse, unless that is done.
wheels() {
    local house
    house=$(wheelhouse "$1")
    if gcloud storage ls "$house/complete" >/dev/null 2>&1; then return; fi
    have_uv
    rm -rf "$home/wheels" "$home/builder"
    uv venv --quiet --seed --python "$python" "$home/builder"
    "$home/builder/bin/pip" wheel --quiet --wheel-dir "$home/wheels" \
        -r "$code/requirements-tpu.txt" -r "$code/requirements-gcs.txt"
    gcloud storage cp "$home"/wheels/*.whl "$house/"
    ls "$home/wheels" >"$home/complete"
    gcloud storage cp "$home/complete" "$house/complete"
}

# FOLDER: installs from its wheelhouse, unless that is done.
install() {
    local house
    house=$(wheelhouse "$1")
    if [[ -e $home/installed && $(<"$home/installed") == "$house" ]]; then return; fi
    have_uv
    rm -rf "$home/wheels" "$home/venv" "$home/installed"
    mkdir "$home/wheels"
    gcloud storage cp "$house/*.whl" "$home/wheels/"
    uv venv --quiet --python "$python" "$home/venv"
    uv pip install --quiet --python "$home/venv" --no-index --find-links "$home/wheels" \
        -r "$code/requirements-tpu.txt" -r "$code/requirements-gcs.txt"
    echo "$house" >"$home/installed"
}

# FOLDER: mounts the data disk there, read-only.
mount_disk() {
    local device
    if mountpoint -q "$1"; then return; fi
    for device in /dev/disk/by-id/google-persistent-disk-1 /dev/sdb /dev/nvme0n2; do
        if [[ -b $device ]]; then
            sudo mkdir -p "$1"
            sudo mount -o ro,noload "$device" "$1"
            return
        fi
    done
    fail "no data disk among $(lsblk --nodeps --noheadings --output NAME | tr '\n' ' ')"
}

running() {
    ! flock --nonblock "$home/run.lock" true
}

# Takes the lock until this shell and the processes that inherit it have ended.
hold() {
    [[ -x $home/venv/bin/python ]] || fail "$home/venv is not there: launch/tpu_vm.sh setup"
    exec 9>"$home/run.lock"
    flock --nonblock 9 || fail "a run is under way: launch/tpu_vm.sh logs, or stop"
}

# ARGUMENTS: starts main.py in a session of its own, which survives the end of ssh.
start() {
    hold
    rm -f "$home"/run.{pid,asked,end}
    setsid bash "$0" attend "$@" </dev/null >>"$home/run.log" 2>&1 &
    until [[ -s $home/run.pid ]]; do sleep 0.1; done
}

attend() {
    local status=0
    cd "$code"
    echo "$(date -u +%FT%TZ) main.py$(printf ' %q' "$@")"
    "$home/venv/bin/python" main.py "$@" 9>&- &
    echo $! >"$home/run.pid"
    wait $! || status=$?
    if [[ -e $home/run.asked && $status == 0 ]]; then
        echo stopped >"$home/run.end"
    else
        echo "exit $status" >"$home/run.end"
    fi
}

# ARGUMENTS: checks what a run with them needs.
doctor() {
    hold
    cd "$code"
    "$home/venv/bin/python" main.py "$@" --config.run=doctor
}

# SECONDS: makes the run save and end; kills it after this time.
stop() {
    local tries
    if ! running; then return; fi
    touch "$home/run.asked"
    kill -TERM "$(<"$home/run.pid")" || true # it may have ended just now
    for ((tries = 5 * $1; tries > 0; tries--)); do
        running || return 0
        sleep 0.2
    done
    kill -KILL "$(<"$home/run.pid")" || true
    fail "$(hostname): killed, as it had not ended within $1 s; its last checkpoint remains"
}

status() {
    local now="nothing was run"
    if running; then
        now=running
    elif [[ -e $home/run.end ]]; then
        now=$(<"$home/run.end")
    elif [[ -e $home/run.pid ]]; then
        now="gone without an exit code"
    fi
    echo "worker $(hostname): $now"
}

logs() { tail -n 100 -F "$home/run.log"; }

# Prints the last lines of a run that has failed.
tails() {
    if [[ $(status) != *": exit 0" ]] && ! running; then
        echo "--- $(hostname)"
        tail -n 20 "$home/run.log"
    fi
}

"$@"
