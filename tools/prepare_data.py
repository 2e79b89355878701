"""python tools/prepare_data.py --help: see srn_tf/commands/prepare_data.py."""

from checkout import start

if __name__ == "__main__":
    start("prepare_data")
