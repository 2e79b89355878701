"""A prediction that takes a while, to be killed: python slow_run.py FOLDER OUTPUT SECONDS_A_BATCH."""

import sys
import time

from srn_tf.data.image_files import list_images
from srn_tf.prediction import predict
from tests.prediction.pictures import ColourPredictor

folder, output, wait_s = sys.argv[1:]
predict._PART_ROWS = 8
predictor = ColourPredictor(lambda call: time.sleep(float(wait_s)))
predict.predict_files(predictor, [*list_images(folder), "missing.png"], output, batch_size=4)
