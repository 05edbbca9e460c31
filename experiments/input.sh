#!/usr/bin/env bash
# How fast this machine reads images, beside tf.data and Grain's own pipeline. IMAGES is a folder of
# JPEGs of ImageNet's sizes, IMAGES/CLASS/*.jpg. Run it alone on the machine.
source "$(dirname "$0")/common.sh"
for recipe in imagenet jft; do
    python main.py --config="configs/$recipe.py:$images" --workdir="$workdir/input/$recipe" \
        --config.run=input_benchmark --config.input.split=train \
        --config.benchmark.images=1600 --config.benchmark.rounds=5 \
        --config.benchmark.tf_data=True --config.benchmark.grain=True
done
