"""Models. Each family is one file; its published sizes are registered here."""

from mixer.models.mixer import Mixer
from mixer.models.registry import register_model

# Table 1: patch P, layers, hidden C, D_S, D_C.
for _name, _patch, _blocks, _hidden, _tokens, _channels in (
    ("Mixer-S/32", 32, 8, 512, 256, 2048),
    ("Mixer-S/16", 16, 8, 512, 256, 2048),
    ("Mixer-B/32", 32, 12, 768, 384, 3072),
    ("Mixer-B/16", 16, 12, 768, 384, 3072),
    ("Mixer-L/32", 32, 24, 1024, 512, 4096),
    ("Mixer-L/16", 16, 24, 1024, 512, 4096),
    ("Mixer-H/14", 14, 32, 1280, 640, 5120),
):
    register_model(
        _name,
        Mixer,
        patch_size=_patch,
        num_blocks=_blocks,
        hidden_dim=_hidden,
        tokens_mlp_dim=_tokens,
        channels_mlp_dim=_channels,
    )
