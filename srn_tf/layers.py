"""The layers of all methods. Importing this module registers them, so that `keras.models.load_model` finds them.

import srn_tf.layers
model = keras.models.load_model("model.keras")
"""

from srn_tf.models.channel_attention import ChannelAttention, ChannelAttentionMaps
from srn_tf.models.label_graph import GraphAttention, GraphConvolution, GroupShares, GroupSums, LabelProducts
from srn_tf.models.label_path import PathDecoder, TruePath
from srn_tf.models.layers import (
    AttentionMaps,
    Constant,
    DepthwiseOverGrid,
    GroupLinear,
    HeadAttention,
    HeadMix,
    LayerScale,
    Output,
    ScaleInput,
    SeededDropout,
    SoftmaxOverGrid,
    SumOverGrid,
    Vectors,
    WeightedMean,
)
from srn_tf.models.region_layers import (
    LabelSequence,
    MaxOverRegions,
    OrderedLabelSequence,
    RegionProbabilities,
    RegionSamples,
)
from srn_tf.models.residual_attention import NormedScores, ResidualAttention, ResidualAttentionMaps
from srn_tf.models.rpn import Proposals
from srn_tf.models.token_layers import AddSinePositions, AllUnknown, IsUnknown, LabelMask, LabelTokens

__all__ = [
    "AddSinePositions",
    "AllUnknown",
    "AttentionMaps",
    "ChannelAttention",
    "ChannelAttentionMaps",
    "Constant",
    "DepthwiseOverGrid",
    "GraphAttention",
    "GraphConvolution",
    "GroupLinear",
    "GroupShares",
    "GroupSums",
    "HeadAttention",
    "HeadMix",
    "IsUnknown",
    "LabelMask",
    "LabelProducts",
    "LabelSequence",
    "LabelTokens",
    "LayerScale",
    "MaxOverRegions",
    "NormedScores",
    "OrderedLabelSequence",
    "Output",
    "PathDecoder",
    "Proposals",
    "RegionProbabilities",
    "RegionSamples",
    "ResidualAttention",
    "ResidualAttentionMaps",
    "ScaleInput",
    "SeededDropout",
    "SoftmaxOverGrid",
    "SumOverGrid",
    "TruePath",
    "Vectors",
    "WeightedMean",
]
