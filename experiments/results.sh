#!/usr/bin/env bash
# What the other experiments found, from their workdirs: figures and tables into docs/results.
source "$(dirname "$0")/common.sh"

# draw NAME RUN KEYS: one command, whose pictures and tables go to docs/results.
draw() {
    local name=$1 what=$2
    shift 2
    python main.py --config=configs/quickstart.py --config.run="$what" \
        --workdir="$workdir/results/$name" "$@"
    find "$workdir/results/$name" \( -name "*.png" -o -name "*.csv" \) -exec cp {} docs/results/ \;
}

mkdir -p docs/results
draw figure4 figures --config.figures.which="('figure4',)" \
    --config.tables.workdirs="$workdir/figure4"
draw figure2_right figures --config.figures.which="('figure2_right',)" \
    --config.tables.workdirs="$workdir/figure2_right"
draw units figures --config.figures.which="('figure5', 'figure6', 'figure7')" \
    --config.init_from=Mixer-Ti/4:cifar10
draw tables tables --config.tables.workdirs="$workdir/ablations,$workdir/throughput"
