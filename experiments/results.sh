#!/usr/bin/env bash
# Writes the results of the other experiments: figures and tables to docs/results, and the tables
# into the documents. Experiments that were not started are left out.
source "$(dirname "$0")/common.sh"

# draw NAME RUN KEYS: runs one command and copies its figures and tables to docs/results.
draw() {
    local name=$1 what=$2
    shift 2
    python main.py --config=configs/quickstart.py --config.run="$what" \
        --workdir="$workdir/results/$name" "$@"
    find "$workdir/results/$name" \( -name "*.png" -o -name "*.csv" \) -exec cp {} docs/results/ \;
}

mkdir -p docs/results
draw units figures --config.figures.which="('figure5', 'figure6', 'figure7')" \
    --config.init_from=Mixer-Ti/4:cifar10
for name in figure4 figure2_right; do
    if [ -e "$workdir/$name" ]; then
        draw $name figures --config.figures.which="('$name',)" \
            --config.tables.workdirs="$workdir/$name"
    fi
done
if [ -e "$workdir/ablations" ]; then
    draw tables tables --config.tables.workdirs="$workdir/ablations"
fi
if [ -e "$workdir/throughput" ]; then
    cp "$workdir/throughput/throughput.csv" docs/results/
fi
python tools/results.py "$workdir"
