"""What names what: texts of three kinds, each a type of its own, so that none is taken for another."""

import re
from typing import NewType

Digest = NewType("Digest", str)
"""A SHA-256 in 64 hexadecimal digits, by which content is asked for, kept and compared.

'' where there is no content: a dense client has no mask.
"""

FileName = NewType("FileName", str)
"""A file of a run, relative to the run directory, as run.db names it: `results/r1-c2-a1.safetensors`; '' for none."""

WorkerId = NewType("WorkerId", str)
"""NAME:INCARNATION, one start of a worker; '' for none.

The name alone stays when the worker is started again, and is no `WorkerId`.
"""

ASSIGNMENT_ID = re.compile(r"r(\d{1,9})-c(\d{1,9})-a(\d{1,9})", re.ASCII)
"""How an assignment is named where it travels: by round, client and attempt."""
