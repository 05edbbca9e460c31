#!/usr/bin/env bash
# Appendix A on CIFAR-10: Mixers whose token mixing is another, beside the Mixer; one seed.
source "$(dirname "$0")/common.sh"
for kind in "" Untied Grouped Views Pyramid; do
    # Of the ablations only the paper's sizes are registered.
    own=(--config.model.patch_size=4 --config.model.hidden_dim=64 --config.model.tokens_mlp_dim=64
         --config.model.channels_mlp_dim=256)
    run "ablations/${kind:-plain}" "ablations.py:" "${kind}Mixer-S/16" "${own[@]}"
done
