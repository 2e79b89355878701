"""python tools/predict.py --help: see srn_tf/commands/predict.py."""

from checkout import start

if __name__ == "__main__":
    start("predict")
