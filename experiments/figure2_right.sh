#!/usr/bin/env bash
# Figure 2 (right) on CIFAR-10: 3, 10, 30 and 100 % of the training images at the same number of
# steps, for a Mixer, a ViT and a ResNet; one seed.
source "$(dirname "$0")/common.sh"
for part in 3 10 30 100; do
    own=("--config.input.split=train")
    run "figure2_right/mixer-$part" "data_scaling.py:$part%," "${mixer[@]}" "${own[@]}"
    run "figure2_right/vit-$part" "data_scaling.py:$part%," "${vit[@]}" "${own[@]}"
    run "figure2_right/bit-$part" "data_scaling.py:$part%," "${bit[@]}" "${own[@]}"
done
