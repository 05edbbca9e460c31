"""What the fields of the models mean, by their names, which are the same in all families."""

MEANINGS = {
    "patch_size": "pixels, of a square; it divides the image's sides",
    "num_blocks": "how many blocks; of each stage, in models that have stages",
    "hidden_dim": "channels C of each token",
    "tokens_mlp_dim": "D_S, units of the MLPs that mix tokens",
    "channels_mlp_dim": "D_C, units of the MLPs that mix channels",
    "mlp_dim": "units of the MLPs",
    "ffn_dim": "channels within a block, of which half gate the other half",
    "width": "channels of the first stage's 3x3 convolutions; each stage doubles them",
    "widths": "the width of each stage, in channels",
    "num_heads": "attention heads; of each stage, in models that have stages",
    "block_size": "pixels of the feature map, along a side, that share their attention",
    "halo_size": "pixels around a block that it attends to as well",
    "value_ratio": "channels of the attention's values, in units of the stage's width",
    "out_ratio": "channels of a block's output, in units of the stage's width",
    "final_dim": "channels of a last layer before pooling; 0: none",
    "token_mixing": "shared (the Mixer's), untied, grouped, views or pyramid",
    "groups": "G of grouped and views; it divides hidden_dim",
    "stages": "of pyramid; from one to the next the tokens become a quarter",
    "pooling": "what the head sees: token (the class token) or gap (the mean of the patches)",
    "representation_size": "units of a layer with tanh before the head; 0: none",
    "dropout": "probability, in training",
    "stochastic_depth": "probability that a branch is left out in training; the model's text in "
    "mixer/models says how it grows with the depth",
    "depth_ramp": "by what stochastic depth grows: mlp, or block (as big_vision has it)",
    "depth_rescale": "divide a branch that is kept by the probability of that",
    "gelu": "tanh (as the paper's models) or erf (the exact one, as timm)",
    "normalization": "of the images, within the model: imagenet or none",
    "layer_scale_init": "what the factors on the branches' channels begin at",
    "head_bias_init": "what the head's biases begin at",
    "dtype": "of the matrix products: float32 or bfloat16; parameters stay float32",
}

# What a training chooses for itself: weights fit a model whatever these are, and mean the same.
OF_TRAINING = (
    "dropout",
    "stochastic_depth",
    "depth_ramp",
    "depth_rescale",
    "head_bias_init",
    "dtype",
)
