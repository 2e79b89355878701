"""srn_tf: multi-label image classification with spatial regularization, in TensorFlow/Keras.

Importing this package loads nothing heavy; TensorFlow is imported by the modules that need it.
"""

__version__ = "0.2.0"

__all__ = ["Predictor"]


def __getattr__(name):
    """`srn_tf.Predictor`, imported where it is first asked for."""
    if name == "Predictor":
        from srn_tf.serving.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'srn_tf' has no attribute {name!r}")
