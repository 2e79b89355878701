"""python tools/compare.py --help: see srn_tf/commands/compare.py."""

from checkout import start

if __name__ == "__main__":
    start("compare")
