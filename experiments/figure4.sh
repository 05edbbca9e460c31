#!/usr/bin/env bash
# Figure 4 on CIFAR-10: a Mixer and a ResNet on the original images, on shuffled patches, and on
# shuffled pixels; three seeds each.
source "$(dirname "$0")/common.sh"
crop="inception_crop(area=(40, 100))|flip_lr"
for seed in 0 1 2; do
    for case in original patches pixels; do
        case $case in
            original) moved="" ;;
            patches) moved="|permute_patches(4)" ;;
            pixels) moved="|permute_pixels" ;;
        esac
        own=(--config.seed=$seed "--config.input.transform=$crop$moved"
             "--config.evaluators.test.transform=resize$moved")
        run "figure4/mixer-$case-$seed" "permutation.py:$case," "${mixer[@]}" "${own[@]}"
        run "figure4/bit-$case-$seed" "permutation.py:$case," "${bit[@]}" "${own[@]}"
    done
done
