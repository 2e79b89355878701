"""python tools/evaluate.py --help: see srn_tf/commands/evaluate.py."""

from checkout import start

if __name__ == "__main__":
    start("evaluate")
