"""What the page needs beyond what running does."""

from importlib.util import find_spec

from lotteryfl.common.errors import LotteryFLError


def require_extra() -> None:
    """Check that it is installed.

    Raises:
        LotteryFLError: it is not.
    """
    for name in ("starlette", "uvicorn"):
        if find_spec(name) is None:
            raise LotteryFLError(f"{name} is not installed: the page needs it: pip install 'lotteryfl[dashboard]'")
