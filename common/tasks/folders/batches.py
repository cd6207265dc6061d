"""Examples as the experiment's objective takes them."""

from typing import Any

import torch

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks.folders.options import Options


def as_taken(inputs: Any, labels: Any, options: Options, experiment: Experiment) -> Any:
    """Return a part of a client's data: (inputs, labels), or the arguments of a model of transformers.

    Raises:
        TaskError: no model of transformers takes such inputs.
    """
    objective = experiment.task.objective
    if objective != "hugging-face":
        return inputs, labels
    if options.is_table:
        raise TaskError(f"task.objective = {objective!r}: takes images and texts, and task.options says a table")
    if not options.words:
        return {"pixel_values": inputs, "labels": labels}
    mask = (inputs != 0).to(torch.int64)
    mask[:, 0] = 1  # also of a text without a word: what attends to nothing may be no number
    return {"input_ids": inputs, "attention_mask": mask, "labels": labels}
