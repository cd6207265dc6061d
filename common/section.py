"""What the sections of an experiment file are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""Fits into every integer of the contract and of run.db."""


class Section(BaseModel):
    """Keys that are all known, and numbers that are all finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
