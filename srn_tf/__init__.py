"""srn_tf: multi-label image classification with spatial regularization, in TensorFlow/Keras.

    srn_tf.list_models(), srn_tf.list_backbones()   names
    srn_tf.create_model(...)                        a Keras model for compile and fit
    srn_tf.train(...)                               a whole run: stages, evaluation, export
    srn_tf.load_run(folder)                         what a run has left
    srn_tf.Predictor(folder)                        an exported model
    srn_tf.evaluate(scores, truth)                  metrics of any scores
    srn_tf.losses, srn_tf.metrics, srn_tf.layers    for Keras models of your own

Importing this package loads nothing heavy; TensorFlow is imported by what needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srn_tf import layers, losses, metrics
    from srn_tf.api import Predictions, Run, create_model, evaluate, list_backbones, list_models, load_run, train
    from srn_tf.serving.predictor import Predictor

__version__ = "0.2.0"

__all__ = [
    "Predictions",
    "Predictor",
    "Run",
    "create_model",
    "evaluate",
    "layers",
    "list_backbones",
    "list_models",
    "load_run",
    "losses",
    "metrics",
    "train",
]

_MODULES = ("layers", "losses", "metrics")


def __getattr__(name: str) -> Any:
    """A name of `__all__`, imported where it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'srn_tf' has no attribute {name!r}")
    if name in _MODULES:
        return importlib.import_module(f"srn_tf.{name}")
    source = "srn_tf.serving.predictor" if name == "Predictor" else "srn_tf.api"
    return getattr(importlib.import_module(source), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
