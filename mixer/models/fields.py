"""The meaning of each model field, by name; a field means the same in all families."""

MEANINGS = {
    "in_chans": "channels of the images: 3 (RGB), 1 (grey), or as many as arrays have",
    "patch_size": "side of a square patch in pixels; divides the image's height and width",
    "num_blocks": "number of blocks; per stage in models with stages",
    "hidden_dim": "channels C of each token",
    "tokens_mlp_dim": "D_S, units of the MLPs that mix tokens",
    "channels_mlp_dim": "D_C, units of the MLPs that mix channels",
    "mlp_dim": "units of the MLPs",
    "ffn_dim": "channels inside a block; one half gates the other",
    "width": "channels of the first stage's 3x3 convolutions; each stage doubles them",
    "widths": "the width of each stage, in channels",
    "num_heads": "attention heads; per stage in models with stages",
    "block_size": "side, in pixels of the feature map, of a block that shares its attention",
    "halo_size": "pixels around a block that it also attends to",
    "value_ratio": "channels of the attention's values, in units of the stage's width",
    "out_ratio": "channels of a block's output, in units of the stage's width",
    "final_dim": "channels of a last layer before pooling; 0: none",
    "token_mixing": "shared (the Mixer's), untied, grouped, views or pyramid",
    "groups": "G of grouped and views; divides hidden_dim",
    "stages": "of pyramid; each has a quarter of the tokens of the one before",
    "pooling": "the head's input: token (the class token) or gap (the mean of the patches)",
    "representation_size": "units of a tanh layer before the head; 0: none",
    "dropout": "probability, in training",
    "stochastic_depth": "probability of dropping a branch in training; the model's docstring in "
    "mixer/models says how it grows with depth",
    "depth_ramp": "where stochastic depth grows: per mlp, or per block (as in big_vision)",
    "depth_rescale": "divide a branch that is kept by the probability of keeping it",
    "gelu": "tanh (as in the paper's models) or erf (exact, as in timm)",
    "normalization": "of the images, inside the model: imagenet or none",
    "layer_scale_init": "initial value of the per-channel factors on the branches",
    "head_bias_init": "initial value of the head's biases",
    "dtype": "of the matrix products and activations: float32, bfloat16 or auto (bfloat16 on TPUs "
    "and GPUs); parameters, norms and head stay float32",
}

# Fields that each training run may choose: weights fit any values of these and mean the same.
OF_TRAINING = (
    "dropout",
    "stochastic_depth",
    "depth_ramp",
    "depth_rescale",
    "head_bias_init",
    "dtype",
)
