#!/usr/bin/env bash
# Trains on a Cloud TPU VM (v2 to v6e), one host or a slice of many, through gcloud's queued resources.
# Google only maintains their API; for TPU7x and later see docs/launch.md.
#
#   launch/tpu_vm.sh COMMAND --name=NAME --project=PROJECT --zone=ZONE [OPTION ...] [-- ARGUMENTS]
#
#   create   requests the TPU and waits until it is ready
#   setup    copies the checked-out commit, Python and the packages to every worker
#   doctor   -- ARGUMENTS: checks on all workers what main.py ARGUMENTS will need
#   run      -- ARGUMENTS: starts main.py ARGUMENTS on all workers, in the background
#   logs     follows the log of one worker
#   status   shows the state of the TPU, and of the run on each worker
#   stop     makes the run save and end (exit code 0); `run` with the same arguments resumes it
#   delete   deletes the TPU
#   train    -- ARGUMENTS: does all of it until results.json is in the workdir. It deletes and
#            requests again a TPU that was preempted, and restarts a run that failed, but gives up
#            at the third failure without a new checkpoint. Ctrl-C ends only the watching: the run
#            goes on, and the same command watches it again
#
#   --type=TYPE        accelerator type, such as v5litepod-32 (create, train)
#   --version=VERSION  version of the TPU software; by default the one for the type
#   --spot             uses a spot TPU, which is cheaper and can be preempted
#   --disk=DISK        a data disk in the same zone, mounted read-only at /mnt/data
#   --wheels=GS        gs://BUCKET/FOLDER for the packages that all workers install. They are
#                      fetched only once, also for restarts (setup, train)
#   --worker=N         the worker whose log to follow (logs); by default 0
#   --poll=SECONDS     time between two checks of the state; by default 60
#   --dry-run          prints the commands instead of running them
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
name="" project="" zone="" type="" version="" disk="" wheels="" spot="" dry="" worker=0 poll=60
workdir="" setbacks=0 saved=""
arguments=()

say() { echo "$(date +%T) $*"; }

fail() {
    echo "error: $*" >&2
    exit "${status:-1}"
}

bad() { status=2 fail "$@"; }

# --- The command line.

parse() {
    command=${1:-}
    case $command in
        create | setup | doctor | run | logs | status | stop | delete | train) shift ;;
        "" | help | --help | -h) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" && exit ;;
        *) bad "unknown command '$command': see launch/tpu_vm.sh help" ;;
    esac
    while (($#)); do
        case $1 in
            --name=* | --project=* | --zone=* | --type=* | --version=* | --disk=* | --wheels=* | \
                --worker=* | --poll=*)
                local option=${1%%=*}
                printf -v "${option#--}" %s "${1#*=}"
                ;;
            --spot) spot=yes ;;
            --dry-run) dry=yes ;;
            --)
                shift
                arguments=("$@")
                break
                ;;
            *) bad "unknown option '$1': see launch/tpu_vm.sh help; give main.py's arguments after --" ;;
        esac
        shift
    done
}

check() {
    [[ $name =~ ^[a-z][-a-z0-9]{0,38}$ ]] ||
        bad "--name='$name': expected lower-case letters, digits and dashes, a letter first"
    [[ -n $project ]] || bad "--project is missing: see gcloud projects list"
    [[ -n $zone ]] || bad "--zone is missing: see gcloud compute tpus locations list"
    [[ $poll =~ ^[0-9]+$ ]] || bad "--poll='$poll': expected seconds"
    case $command in create | train) check_type ;; esac
    case $command in
        setup | train)
            [[ $wheels == gs://?* ]] ||
                bad "--wheels='$wheels': expected gs://BUCKET/FOLDER, a place for the packages"
            ;;
    esac
    case $command in
        doctor | run | train)
            ((${#arguments[@]})) || bad "main.py's arguments are missing: -- --config=... --workdir=..."
            ;;
        *)
            ((!${#arguments[@]})) || bad "$command takes no arguments for main.py: '${arguments[0]}'"
            ;;
    esac
    if [[ $command == train ]]; then check_workdir; fi
    [[ -n $dry ]] || command -v gcloud >/dev/null ||
        fail "gcloud is not installed: https://cloud.google.com/sdk/docs/install"
}

check_type() {
    [[ -z $version ]] || return 0
    # https://cloud.google.com/tpu/docs/runtimes
    case $type in
        v6e-*) version=v2-alpha-tpuv6e ;;
        v5p-*) version=v2-alpha-tpuv5 ;;
        v5litepod-*) version=v2-alpha-tpuv5-lite ;;
        v[234]-*) version=tpu-ubuntu2204-base ;;
        *) bad "--type='$type': expected v6e-N, v5p-N, v5litepod-N, v4-N, v3-N, v2-N, or --version too" ;;
    esac
}

check_workdir() {
    local argument
    for argument in "${arguments[@]}"; do
        case $argument in --workdir=*) workdir=${argument#*=} ;; esac
    done
    workdir=${workdir%/}
    [[ $workdir == gs://?* ]] ||
        bad "--workdir='$workdir': expected gs://BUCKET/FOLDER, as a TPU's disk is deleted with it"
}

# --- The TPU.

call() {
    if [[ -z $dry ]]; then
        "$@"
    else
        local word escaped="'\\''"
        for word in "$@"; do
            if [[ $word == *[!A-Za-z0-9_./:=,@+-]* ]]; then word="'${word//\'/$escaped}'"; fi
            printf '%s ' "$word"
        done
        echo
    fi
}

tpus() { call gcloud compute tpus "$@" --project="$project" --zone="$zone" --quiet; }

ask() {
    local options=(--node-id="$name" --accelerator-type="$type" --runtime-version="$version")
    [[ -z $spot ]] || options+=(--spot)
    [[ -z $disk ]] ||
        options+=(--data-disk="mode=read-only,source=projects/$project/zones/$zone/disks/$disk")
    tpus queued-resources create "$name" "${options[@]}"
}

give_back() { tpus queued-resources delete "$name" --force; }

# The state of the request or, once it is ACTIVE, of the TPU; NONE if there is no request, UNKNOWN
# if gcloud does not answer.
state() {
    local now
    now=$(describe queued-resources state.state)
    if [[ $now == ACTIVE ]]; then
        now=$(describe tpu-vm state)
        if [[ $now == NONE ]]; then now=PREEMPTED; fi
    fi
    echo "$now"
}

describe() {
    if tpus "$1" describe "$name" --format="value($2)" 2>"$scratch/said"; then return; fi
    if grep -qiE 'NOT_FOUND|not found' "$scratch/said"; then
        echo NONE
    else
        grep -v '^$' "$scratch/said" >&2 || true
        echo UNKNOWN
    fi
}

# Requests the TPU if needed, again if it was preempted, and waits until it is ready.
obtain() {
    local now before=""
    while :; do
        now=$(state)
        [[ $now == "$before" ]] || say "$name: $now"
        before=$now
        case $now in
            READY) return ;;
            NONE) ask || setback "gcloud refuses the request (see above)" ;;
            FAILED)
                tpus queued-resources describe "$name" --format="yaml(state)" || true
                give_back || true
                setback "the request has failed (see above)"
                ;;
            SUSPENDED | PREEMPTED | TERMINATED | STOPPED) give_back || true ;;
        esac
        sleep "$poll"
    done
}

# --- The workers.

# WORKERS COMMAND ...: runs a command of launch/worker.sh on these workers.
on() {
    local workers=$1
    shift
    remote "$workers" "bash mlp-mixer/code/launch/worker.sh$(printf ' %q' "$@")"
}

remote() { tpus tpu-vm ssh "$name" --worker="$1" --command="$2"; }

# Packs the checked-out commit with its hash, which results.json records, but without history.
pack() {
    if [[ -n $(git -C "$root" status --porcelain --untracked-files=no) ]]; then
        fail "$root has changes that are not committed: commit or stash them, as only a commit is run"
    fi
    call git clone --quiet --depth=1 "file://$root" "$scratch/code"
    call tar -czf "$scratch/code.tar.gz" -C "$scratch" code
}

setup() {
    tpus tpu-vm scp "$scratch/code.tar.gz" "$name:mlp-mixer.tar.gz" --worker=all &&
        remote all "$unpack" &&
        on 0 wheels "$wheels" &&
        on all install "$wheels" &&
        { [[ -z $disk ]] || on all mount_disk /mnt/data; }
}
# shellcheck disable=SC2016 # the worker expands it
unpack='
    mkdir -p mlp-mixer
    replace="rm -rf mlp-mixer/code && tar -xzf mlp-mixer.tar.gz -C mlp-mixer"
    flock --nonblock mlp-mixer/run.lock sh -c "$replace" || {
        echo "error: $(hostname) cannot take the code; is a run under way? launch/tpu_vm.sh stop" >&2
        exit 1
    }'

# shellcheck source=train.sh
source "$here/train.sh"
parse "$@"
check
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

case $command in setup | train) pack ;; esac
case $command$dry in
    create | train) [[ $(state) != UNKNOWN ]] || fail "gcloud does not answer for $name (see above)" ;;
esac
case $command$dry in
    create) obtain ;;
    createyes) ask ;;
    setup*) setup ;;
    doctor*) on all doctor "${arguments[@]}" ;;
    run*)
        on all start "${arguments[@]}" ||
            fail "not all workers have started: launch/tpu_vm.sh stop ends those that have"
        ;;
    logs*) on "$worker" logs ;;
    status*)
        tpus queued-resources describe "$name" --format="value(state.state)"
        on all status
        ;;
    stop*) on all stop 600 ;;
    delete*) give_back ;;
    train) train ;;
    trainyes)
        ask && setup
        on all doctor "${arguments[@]}"
        on all start "${arguments[@]}"
        tpus queued-resources describe "$name" --format="value(state.state)"
        on all status
        call gcloud storage ls "$workdir/results.json"
        ;;
esac
