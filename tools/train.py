"""python tools/train.py --help: see srn_tf/commands/train.py."""

from checkout import start

if __name__ == "__main__":
    start("train")
