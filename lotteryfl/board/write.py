"""A board as a folder: the page, how it looks, what sorts it, and the records that it shows."""

from importlib import resources
from pathlib import Path

from lotteryfl.board.entries import Board
from lotteryfl.board.page import STYLES, render
from lotteryfl.board.table import RECORDS
from lotteryfl.common.disk.atomicfile import write_text
from lotteryfl.common.disk.privatefiles import SHARED_FILE
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.records.files import ENDING, to_text

_OWN = ("board.css", "board.js")


def write_board(board: Board, out: Path) -> Path:
    """Write a board into a folder, which is made where it is missing, and return its page.

    The same records give the same bytes.

    Raises:
        LotteryFLError: the folder cannot be written.
    """
    styles = resources.files("lotteryfl.dashboard").joinpath("static", "style")
    own = resources.files("lotteryfl.board").joinpath("static")
    files = {name: styles.joinpath(name).read_text(encoding="utf-8") for name in STYLES}
    files |= {name: own.joinpath(name).read_text(encoding="utf-8") for name in _OWN}
    files |= {f"{RECORDS}/{entry.name}{ENDING}": to_text(entry.record) for entry in board.entries}
    files["index.html"] = render(board)  # the last: a page that is there is whole
    try:
        for name, text in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text, SHARED_FILE)
    except OSError as error:
        raise LotteryFLError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    return out / "index.html"
