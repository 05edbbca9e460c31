#!/usr/bin/env bash
# What bfloat16 does to accuracy, on CIFAR-10: the same Mixer in both precisions, three seeds each.
source "$(dirname "$0")/common.sh"
for seed in 0 1 2; do
    for dtype in float32 bfloat16; do
        run "precision/$dtype-$seed" "folder.py:" "${mixer[@]}" --config.seed=$seed \
            --config.model.dtype=$dtype --config.model.stochastic_depth=0.0
    done
done
