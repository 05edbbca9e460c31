# Settings that all experiments share (docs/reproduction.md has their results). IMAGES is a folder
# of CIFAR-10 as JPEGs, {train,test}/CLASS/*.jpg, or another dataset, such as
# cifar:cifar-10-python.tar.gz; WORKDIR gets a folder for each run. Complete runs are not
# repeated, and stopped runs are resumed.
#
# On two cores run two of these scripts at a time, one with `taskset -c 0`, the other with `-c 1`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
images=${1:?usage: $0 IMAGES WORKDIR}
[[ $images == *:* ]] || images=folder:$images
workdir=${2:?usage: $0 IMAGES WORKDIR}
# By default glibc returns the memory of each step and requests it again: a third of the CPU time.
export MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000

# Small models of each family (21, 30 and 6 million multiply-accumulates per image; 0.34, 0.41 and
# 0.50 million parameters).
mixer=(Mixer-Ti/4)
vit=(ViT-Ti/16 --config.model.patch_size=4 --config.model.num_blocks=8 --config.model.hidden_dim=64
     --config.model.mlp_dim=256 --config.model.num_heads=4 --config.model.pooling=gap)
bit=(BiT-R50x1 "--config.model.num_blocks=(1, 1, 1)" --config.model.width=32)

# run NAME RECIPE MODEL [MODEL_KEYS] [KEYS]: trains one model; all trainings are alike.
run() {
    local name=$1 recipe=$2 model=$3
    shift 3
    echo "== $name"
    python main.py --config="configs/${recipe}$images,32,$model" --workdir="$workdir/$name" \
        --config.batch_size=64 --config.total="1500 steps" --config.schedule.warmup="150 steps" \
        --config.schedule.base=0.002 --config.schedule.end=0.0 \
        --config.input.split="train[:40%]" \
        --config.input.transform="inception_crop(area=(40, 100))|flip_lr" \
        --config.evaluators.test.transform=resize --config.evaluators.test.batch_size=250 \
        --config.evaluators.test.every="250 steps" --config.runtime.checkpoint_every="250 steps" \
        --config.runtime.log_every="50 steps" "$@"
}
