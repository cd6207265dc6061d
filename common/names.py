"""What names what: texts of three kinds, each a type of its own, so that none is taken for another."""

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
