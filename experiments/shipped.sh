#!/usr/bin/env bash
# Trains Mixer-Ti/4:cifar10, the CIFAR-10 model that comes with the package, for 30 epochs.
source "$(dirname "$0")/common.sh"
python main.py --config="configs/folder.py:$images,32,Mixer-Ti/4" \
    --workdir="$workdir/shipped" --config.batch_size=128 --config.total="30 epochs" \
    --config.model.stochastic_depth=0.0 --config.schedule.warmup="1000 steps" \
    --config.schedule.base=0.003 --config.schedule.end=0.0 \
    --config.input.transform="inception_crop(area=(40, 100))|flip_lr" \
    --config.evaluators.test.transform=resize --config.evaluators.test.batch_size=250 \
    --config.evaluators.test.every="2 epochs" --config.runtime.checkpoint_every="2 epochs" \
    --config.runtime.log_every="100 steps"
