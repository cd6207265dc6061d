"""`python -m lotteryfl.dashboard DIR…`: the command `lotteryfl dashboard`."""

import sys

from lotteryfl.program import main

if __name__ == "__main__":
    sys.argv[1:1] = ["dashboard"]
    main()
