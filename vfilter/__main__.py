"""python -m vfilter: the command line."""

from vfilter.cli import main

if __name__ == "__main__":
    main()
