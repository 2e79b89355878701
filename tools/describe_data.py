"""python tools/describe_data.py --help: see srn_tf/commands/describe_data.py."""

from checkout import start

if __name__ == "__main__":
    start("describe_data")
