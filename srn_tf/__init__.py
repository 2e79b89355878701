"""srn_tf: multi-label image classification with spatial regularization, in TensorFlow/Keras.

Importing this package loads nothing heavy; TensorFlow is imported by the modules that need it.
"""

__version__ = "0.1.0"
