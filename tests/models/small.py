"""Small models for tests."""

import hashlib

from srn_tf.models.registry import METHODS, ModelConfig, build_model

SMALL_RLSD = {
    **{"regions": 6, "rpn_width": 8, "region_grid": 2, "region_width": 12},
    **{"region_lstm_width": 8, "region_embedding_width": 8, "region_steps": 3},
}
SMALL_SETTINGS = {
    "srn": {"head_channels": 8},
    "srn_att": {"head_channels": 8},
    "region_toy": {"label_width": 4},
    "cnn_rnn": {"rnn_width": 8, "rnn_embedding": 6, "rnn_dropout": 0.1},
    "ml_decoder": {"decoder_width": 16, "decoder_hidden": 24},
    "query2label": {"q2l_width": 16, "q2l_hidden": 24},
    "c_tran": {"ctran_width": 16, "ctran_hidden": 24},
    "csra": {"csra_heads": 2},
    "ml_gcn": {"gcn_hidden": 12},
    "add_gcn": {"graph_width": 12},
    "msrn": {"msrn_width": 8, "msrn_hidden": 12, "group_ratio": 0.7},
    "rlsd": SMALL_RLSD,
    "rlsd_ft_rpn": SMALL_RLSD,
}


def small_model(model, num_labels, image_size=56, backbone="small", backbone_weights="none", **settings):
    """A method on the small backbone, with labels a0, a1, ... and the settings given."""
    config = ModelConfig(model, backbone, image_size, METHODS[model].settings(**settings))
    return build_model(config, [f"a{i}" for i in range(num_labels)], backbone_weights)


def digest_of(model):
    """The number of a model's weights, and a digest of their addresses and shapes in alphabetical order."""
    lines = sorted(f"{address} {tuple(weight.shape)}" for address, weight in model.weights.items())
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def losses_of(stage):
    """Term's name -> weight, of a stage."""
    return {term.name: term.weight for term in stage.terms}


def main_net_outputs(model, images):
    """What trunk and classifier give: X, last_map, pooled and y_cls, arrays."""
    maps = model.parts["trunk"](images)
    outputs = model.parts["classifier"](maps["c5"])
    return {"X": maps["c4"].numpy(), "last_map": maps["c5"].numpy()} | {
        name: value.numpy() for name, value in outputs.items()
    }
