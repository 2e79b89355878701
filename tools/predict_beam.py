"""python tools/predict_beam.py --help: see srn_tf/commands/predict_beam.py."""

from checkout import start

if __name__ == "__main__":
    start("predict_beam")
