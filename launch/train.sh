#!/usr/bin/env bash
# `launch/tpu_vm.sh train`: restarts until the run is complete. tpu_vm.sh sources this file.
# shellcheck disable=SC2154 # variables are set there

complete() { gcloud storage ls "$workdir/results.json" >/dev/null 2>&1; }

# MESSAGE: counts a failure, and gives up at the third one without a new checkpoint.
setback() {
    local now=""
    if [[ -n $workdir ]]; then
        # Only complete checkpoints have this file.
        now=$(gcloud storage ls "$workdir/**/commit_success.txt" 2>/dev/null || true)
    fi
    if [[ $now != "$saved" ]]; then
        setbacks=0 saved=$now
    fi
    setbacks=$((setbacks + 1))
    say "$1"
    ((setbacks < 3)) || fail "given up: three times without a new checkpoint. $name is not deleted"
    sleep "$poll"
}

all_run() { [[ -n $1 ]] && ! grep -qv ': running$' <<<"$1"; }

statuses() { remote all "$ask" 2>"$scratch/said" | grep '^worker '; }
ask='
  if [ -e mlp-mixer/code/launch/worker.sh ]; then bash mlp-mixer/code/launch/worker.sh status
  else echo "worker without code"; fi'

# The statuses, asked for up to five times: a worker that does not answer may still be running.
patient_statuses() {
    local asked
    for asked in 1 2 3 4 5; do
        if statuses; then return; fi
        ((asked == 5)) || sleep "$poll"
    done
    return 1
}

unanswered() {
    cat "$scratch/said" >&2
    give_back || true
    setback "a worker of $name has not answered five times: another TPU"
}

begin() {
    local code=0
    say "setting $name up"
    on all stop 60 >/dev/null 2>&1 || true # what an earlier start left running
    setup && on all doctor "${arguments[@]}" && on all start "${arguments[@]}" || code=$?
    case $code in
        0) say "started: launch/tpu_vm.sh logs --name=$name --project=$project --zone=$zone" ;;
        2) fail "main.py or gcloud refuses its arguments (see above)" ;;
        *) return 1 ;;
    esac
}

# Watches the run; returns when it is complete or must be started again.
watch() {
    local now workers silent=0
    while sleep "$poll"; do
        if complete; then return; fi
        now=$(state)
        case $now in
            READY) ;;
            UNKNOWN) continue ;;
            NONE | DELETING) fail "$name was deleted from elsewhere; the same command requests it again" ;;
            *) say "$name: $now" && return ;;
        esac
        if ! workers=$(statuses); then
            silent=$((silent + 1))
            ((silent < 5)) && continue
            unanswered
            return
        fi
        silent=0
        if all_run "$workers"; then continue; fi
        if complete; then return; fi
        echo "$workers"
        case $workers$'\n' in
            *": stopped"*)
                say "stopped by launch/tpu_vm.sh stop; the same command resumes it"
                exit 0
                ;;
            *": exit 2"$'\n'*) on all tails && fail "main.py refuses its arguments (see above)" ;;
        esac
        on all tails || true
        setback "not all workers are running: starting them again"
        return
    done
}

train() {
    local workers
    until complete; do
        obtain
        if ! workers=$(patient_statuses); then
            unanswered
        elif all_run "$workers" || begin; then
            watch
        elif [[ $(state) == READY ]]; then
            setback "$name could not be set up or started (see above)"
        fi
    done
    say "complete: $workdir/results.json. $name is not deleted: launch/tpu_vm.sh delete"
}
