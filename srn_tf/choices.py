"""The closed sets of the command line, stated once; names only, so that --help loads nothing."""

DATASETS = ("scenes", "coco2014", "nus_wide", "wider_attribute", "voc2007", "apparel", "csv")
CACHES = ("none", "encoded", "decoded", "features")
LOSSES = ("sigmoid", "softmax", "pairwise", "warp", "warp_exact", "focal", "asymmetric")
POSITIVE_WEIGHTS = ("none", "balanced")
UNSPECIFIED = ("auto", "ignore", "normalize", "negative", "selective")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("plateau", "cosine")
ENGINES = ("tensorflow", "openvino", "onnxruntime")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
