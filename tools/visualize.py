"""python tools/visualize.py --help: see srn_tf/commands/visualize.py."""

from checkout import start

if __name__ == "__main__":
    start("visualize")
