"""Makes timm_mixer.safetensors and timm_mixer.npz: a tiny Mixer of timm's and its logits.

    pip install torch timm safetensors && python tests/checkpoint/timm_mixer.py

Not a test: timm and PyTorch are no dependency of the tests, what they computed is stored. Made with
timm 1.0.31 and torch 2.13.0.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from timm.models.mlp_mixer import MlpMixer
from torch import nn

HERE = Path(__file__).parent


def main():
    torch.manual_seed(0)
    # A grid of 2 x 3 patches that are not symmetric, so that no transposition passes unseen.
    make = partial(
        MlpMixer,
        num_classes=5,
        img_size=(8, 12),
        patch_size=4,
        num_blocks=2,
        embed_dim=8,
        mlp_ratio=(1.25, 2.0),
    )
    exact = make().eval()
    with torch.no_grad():
        for parameter in exact.parameters():
            parameter.normal_(0, 1)
    save_file(exact.state_dict(), HERE / "timm_mixer.safetensors")
    approximate = make(act_layer=partial(nn.GELU, approximate="tanh")).eval()
    approximate.load_state_dict(exact.state_dict())
    images = torch.rand(2, 3, 8, 12) * 2 - 1
    with torch.no_grad():
        np.savez(
            HERE / "timm_mixer.npz",
            images=images.permute(0, 2, 3, 1).numpy(),
            erf=exact(images).numpy(),
            tanh=approximate(images).numpy(),
        )


if __name__ == "__main__":
    main()
