"""python tools/tune_thresholds.py --help: see srn_tf/commands/tune_thresholds.py."""

from checkout import start

if __name__ == "__main__":
    start("tune_thresholds")
