"""Examples as the experiment's objective takes them."""

from typing import Any

import torch

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.tasks.folders.options import Options


def takes_pairs(experiment: Experiment) -> bool:
    """Tell whether examples are (inputs, labels)."""
    return experiment.task.objective != "hugging-face"


def as_taken(inputs: Any, labels: Any, options: Options, experiment: Experiment) -> Any:
    """Return a part of a client's data: (inputs, labels), or the arguments of a model of transformers.

    Raises:
        TaskError: no model of transformers takes such inputs.
    """
    if takes_pairs(experiment):
        return inputs, labels
    if options.is_table:
        raise TaskError("task.objective = 'hugging-face': takes images and texts, and task.options says a table")
    if not options.words:
        return {"pixel_values": inputs, "labels": labels}
    mask = (inputs != 0).to(torch.int64)
    mask[:, 0] = 1  # also of a text without a word: what attends to nothing may be no number
    return {"input_ids": inputs, "attention_mask": mask, "labels": labels}
