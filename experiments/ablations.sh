#!/usr/bin/env bash
# Appendix A on CIFAR-10: the Mixer, and variants of its token mixing; one seed.
source "$(dirname "$0")/common.sh"
for kind in "" Untied Grouped Views Pyramid; do
    # The variants are registered only in the paper's sizes.
    own=(--config.model.patch_size=4 --config.model.hidden_dim=64 --config.model.tokens_mlp_dim=64
         --config.model.channels_mlp_dim=256)
    run "ablations/${kind:-plain}" "ablations.py:" "${kind}Mixer-S/16" "${own[@]}"
done
