#!/usr/bin/env bash
# The throughput of all seven Mixers and of table 3's ViTs and BiTs on this machine, and the ratio of
# each to Mixer-L/16, next to the paper's.
source "$(dirname "$0")/common.sh"
python main.py --config=configs/imagenet.py --config.run=throughput --workdir="$workdir/throughput" \
    --config.throughput.models="('Mixer-L/16', 'Mixer-S/32', 'Mixer-S/16', 'Mixer-B/32', 'Mixer-B/16',
        'Mixer-L/32', 'Mixer-H/14', 'ViT-B/16', 'ViT-L/16', 'ViT-H/14', 'BiT-R50x1', 'BiT-R50x2',
        'BiT-R152x1', 'BiT-R152x2', 'BiT-R200x3')" \
    --config.throughput.resolutions="(224,)" --config.throughput.training=False \
    --config.throughput.patience=4
