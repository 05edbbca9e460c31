#!/usr/bin/env bash
# What launch/tpu_vm.sh has each worker do. All of it lies in ~/mlp-mixer:
#   code/ venv/ wheels/   the commit, Python, the packages; uv/ brings Python
#   run.lock              held as long as main.py runs
#   run.pid run.log       its process, what it says
#   run.asked run.end     there if it was asked to stop; how it ended
set -euo pipefail

python=3.11 # of the wheels; a TPU VM's own is 3.10
home=$HOME/mlp-mixer
code=$home/code
PATH=$PATH:$home/uv/bin

fail() {
    echo "error: $*" >&2
    exit 1
}

# Of a folder of its own, which no rule of the system's about its packages concerns.
have_uv() {
    command -v uv >/dev/null ||
        python3 -m pip install --quiet --target "$home/uv" --require-hashes -r "$code/launch/uv.txt"
}

# One wheelhouse for each Python and each text of the requirements, for all workers and restarts.
wheelhouse() {
    local texts
    texts=$(cat "$code"/requirements{,-tpu,-gcs}.txt | sha256sum)
    echo "${1%/}/py$python-${texts:0:12}"
}

# FOLDER: fills the wheelhouse below it, unless that was done.
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

# FOLDER: installs from the wheelhouse below it, unless that was done.
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

# Takes the lock, for as long as this shell or who inherits it lives.
hold() {
    [[ -x $home/venv/bin/python ]] || fail "$home/venv is not there: launch/tpu_vm.sh setup"
    exec 9>"$home/run.lock"
    flock --nonblock 9 || fail "a run is under way: launch/tpu_vm.sh logs, or stop"
}

# ARGUMENTS: starts main.py in a session of its own, which the end of ssh leaves alone.
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

# ARGUMENTS: looks at what a run with them needs.
doctor() {
    hold
    cd "$code"
    "$home/venv/bin/python" main.py "$@" --config.run=doctor
}

# SECONDS: has the run save and end; kills it after so many.
stop() {
    local tries
    if ! running; then return; fi
    touch "$home/run.asked"
    kill -TERM "$(<"$home/run.pid")" || true # it may just have ended
    for ((tries = 5 * $1; tries > 0; tries--)); do
        running || return 0
        sleep 0.2
    done
    kill -KILL "$(<"$home/run.pid")" || true
    fail "$(hostname): killed, as it had not ended within $1 s; what it had saved stands"
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

# The last lines of a run that has failed.
tails() {
    if [[ $(status) != *": exit 0" ]] && ! running; then
        echo "--- $(hostname)"
        tail -n 20 "$home/run.log"
    fi
}

"$@"
