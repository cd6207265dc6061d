"""`python -m lotteryfl.launching.ssh RUN_DIR`: the process that keeps a launch; `SSHLauncher` starts it."""

import sys
from pathlib import Path

from lotteryfl.launching.ssh.keeper import keep

if __name__ == "__main__":
    keep(Path(sys.argv[1]))
