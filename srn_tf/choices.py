"""The closed sets of the command line, stated once; names only, so that --help loads nothing."""

OWN_PHOTOS = ("csv", "folders", "coco_json", "voc_folder", "label_studio", "cvat", "huggingface")
DATASETS = ("scenes", "coco2014", "nus_wide", "wider_attribute", "voc2007", "apparel", *OWN_PHOTOS)
CACHES = ("none", "encoded", "decoded", "features")
LOSSES = ("sigmoid", "softmax", "pairwise", "warp", "warp_exact", "focal", "asymmetric")
POSITIVE_WEIGHTS = ("none", "balanced")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
KEPT_WEIGHTS = ("better", "average", "plain")
DECAYED_WEIGHTS = ("all", "matrices")
SCHEDULES = ("plateau", "cosine", "one_cycle")
TTA = ("none", "flip", "5crop", "flip,5crop")
ENGINES = ("tensorflow", "openvino", "onnxruntime")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
