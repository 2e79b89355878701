"""python tools/demo.py --help: see srn_tf/commands/demo.py."""

from checkout import start

if __name__ == "__main__":
    start("demo")
