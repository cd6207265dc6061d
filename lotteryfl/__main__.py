"""`python -m lotteryfl` is the command line."""

from lotteryfl.program import main

if __name__ == "__main__":
    main()
