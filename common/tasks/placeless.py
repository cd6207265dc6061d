"""An experiment as it may be told elsewhere: without where files lie on this machine."""

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.models.named import model_name
from lotteryfl.common.owncode.taskid import task_id


def without_places(experiment: Experiment) -> Experiment:
    """Return an experiment without where its files lie on this machine; of files of code, their names stay.

    Raises:
        ValueError: its model is of a folder whose config cannot be read.
    """
    task = experiment.task
    model = model_name(task.model)
    names = {"name": task_id(task.name), "model": model.travelling() if model else task.model}
    placeless = task.model_copy(update={**names, "data_dir": "", "initial": ""})
    return experiment.model_copy(update={"task": placeless, "partition": experiment.partition.without_place})
