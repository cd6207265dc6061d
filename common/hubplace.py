"""Weights on Hugging Face's hub: a repository at a commit, of which `model.safetensors` alone is ever fetched."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.text import quoted

PREFIX = "hf:"
FILE = "model.safetensors"
_PLACE = re.compile(r"hf:([\w.-]+/[\w.-]+)@([0-9a-f]{40})", re.ASCII)


@dataclass(frozen=True)
class HubPlace:
    """Where weights are on the hub."""

    repository: str
    """OWNER/NAME."""
    revision: str
    """The commit, in 40 hexadecimal digits: a branch would be other weights some day."""

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read hf:OWNER/NAME@COMMIT; None: it is a place on this machine.

        Raises:
            ValueError: it begins so, and goes on otherwise.
        """
        if not text.startswith(PREFIX):
            return None
        if (found := _PLACE.fullmatch(text)) is None:
            raise ValueError(f"{quoted(text)}: expected hf:OWNER/NAME@COMMIT, the commit in 40 hexadecimal digits")
        return cls(found[1], found[2])

    def fetched(self) -> Path:
        """Return the file, in the library's own cache, where it may have been before.

        Raises:
            LotteryFLError: it cannot be had.
        """
        try:
            from huggingface_hub import hf_hub_download
        except ImportError as error:
            raise LotteryFLError("needs huggingface_hub: pip install 'lotteryfl[peft]'") from error
        try:
            return Path(hf_hub_download(self.repository, FILE, revision=self.revision))
        except Exception as error:  # of a library that has a network, files and locks below it
            raise LotteryFLError(
                f"{FILE} cannot be had from the hub: {type(error).__name__}: {first_line(error)}"
            ) from error
