"""Query2Label: a transformer whose decoder asks the last map, by a learned query for each label, whether it is there.

Liu, Zhang, Yang, Su, Zhu: Query2Label: A Simple Transformer Way to Multi-Label Classification, 2021 (arXiv 2107.10834).
What the text leaves open is as in the authors' repository SlongLiu/query2labels, 55eb050.
"""

import dataclasses

from srn_tf.lazy import LazyModule
from srn_tf.models.model import Map, MultiLabelModel, Stage, label_loss
from srn_tf.models.settings import Settings, setting

keras = LazyModule("keras")
layers = LazyModule("srn_tf.models.layers")
token_layers = LazyModule("srn_tf.models.token_layers")
transformer = LazyModule("srn_tf.models.transformer")

HEADS = 4
DECODER_LAYERS = 2

ATTENTION = Map(
    "A",
    "cross-attention",
    "The last cross-attention shows where a label's query looks, as the mean over its heads.",
)

STAGES = {
    "all": Stage(
        trains=("trunk", "encoder", "queries", "decoder", "group_fc"),
        fixed=(),
        terms=(label_loss("y_q2l"),),
        watched="y_q2l",
    ),
}


@dataclasses.dataclass(frozen=True)
class Query2LabelSettings(Settings):
    """Settings of Query2Label."""

    q2l_width: int = setting(
        0,
        "Channels D of queries and tokens, a multiple of 4, behind a linear projection of the last map. 0: the map's "
        "own, without a projection, as in the paper (2048).",
        lowest=0,
    )
    q2l_hidden: int = setting(8192, "Width of the feed-forward layers. Paper: 8192.", lowest=1)
    q2l_dropout: float = setting(0.1, "Dropout rate everywhere in encoder and decoder. Paper: 0.1.", None, 0.0, 0.9)

    stages = STAGES


def build(trunk, labels, settings):
    """Builds Query2Label on a trunk's last map.

    Args:
        trunk: backbones.Trunk.
        labels: labels.LabelSpace.
        settings: Query2LabelSettings.
    Returns:
        MultiLabelModel with the logits y_q2l, the map A of the last cross-attention, and the pooled last map.
    Raises:
        InputError: a width that the heads cannot share.
    """
    map_shape, num_labels = trunk.maps["c5"].shape[1:], len(labels)
    width = settings.q2l_width or map_shape[-1]
    transformer.check_width("q2l_width", width, HEADS)
    encoder = build_encoder(map_shape, settings)
    queries = layers.Vectors(num_labels, width, name="queries")
    decoder = build_decoder(map_shape[:2], width, num_labels, settings)
    group_fc = layers.GroupLinear(num_labels, 1, is_uniform=True, name="group_fc")

    last_map = trunk.model(trunk.image)["c5"]
    decoded = decoder({"tokens": encoder(last_map), "queries": queries(last_map)})
    return MultiLabelModel(
        image=trunk.image,
        outputs={
            "y_q2l": group_fc(decoded["queries"]),
            "A": layers.AttentionMaps(map_shape[:2], num_labels, 1, name="attention_maps")(decoded["attention"]),
            "pooled": keras.layers.GlobalAveragePooling2D(name="q2l_pool")(last_map),
        },
        parts={
            **{"trunk": trunk.model, "encoder": encoder, "queries": queries},
            **{"decoder": decoder, "group_fc": group_fc},
        },
        stages=settings.stages,
        logits=("y_q2l",),
        maps=(ATTENTION,),
        embedding="pooled",
        label_free=("trunk", "encoder", "decoder"),
        features={"c5": last_map},
    )


def build_encoder(map_shape, settings):
    """One layer of self-attention among the places of the map, which know where they are.

    Args:
        map_shape: (H, W, F) of the last map.
        settings: Query2LabelSettings.
    Returns:
        keras.Model encoder: (B, H, W, F) -> tokens (B, H * W, D).
    """
    rate, kernel = settings.q2l_dropout, transformer.xavier_uniform
    last_map = keras.Input(map_shape, name="last_map")
    tokens = transformer.tokens_of(last_map, "enc_tokens")
    if settings.q2l_width:
        tokens = transformer.linear(tokens, settings.q2l_width, "enc_project")
    placed = token_layers.AddSinePositions(map_shape[:2], name="enc_positions")(tokens)
    t, _ = transformer.attend(tokens, placed, placed, tokens, HEADS, rate, "enc", 1, kernel)
    t = transformer.feed_forward(t, settings.q2l_hidden, rate, "enc", 2, kernel)
    return keras.Model(last_map, t, name="encoder")


def build_decoder(grid, width, num_queries, settings):
    """Two layers of cross-attention, without self-attention, that begin at zeros, and a norm.

    Args:
        grid: (H, W) of the tokens.
        width: D.
        num_queries: Q.
        settings: Query2LabelSettings.
    Returns:
        keras.Model decoder: dict of tokens (B, H * W, D) and queries (B, Q, D) -> dict of queries (B, Q, D) and
        attention (B, 4, Q, H * W) of the last layer, each query of each head sums to 1.
    """
    height, width_px = grid
    rate, kernel = settings.q2l_dropout, transformer.xavier_uniform
    tokens = keras.Input((height * width_px, width), name="tokens")
    queries = keras.Input((num_queries, width), name="queries")
    placed = token_layers.AddSinePositions(grid, name="dec_positions")(tokens)
    t = None  # zeros
    for number in range(1, DECODER_LAYERS + 1):
        name = f"dec{number}"
        asked = queries if t is None else keras.layers.Add(name=f"{name}_ask")([t, queries])
        t, attention = transformer.attend(t, asked, placed, tokens, HEADS, rate, name, 1, kernel)
        t = transformer.feed_forward(t, settings.q2l_hidden, rate, name, 2, kernel)
    t = transformer.norm(t, "dec_norm")
    return keras.Model({"tokens": tokens, "queries": queries}, {"queries": t, "attention": attention}, name="decoder")
