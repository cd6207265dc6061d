"""From an experiment to a run directory: the model's table and θ_0, or a run that is taken up again."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from lotteryfl.common.errors import ExperimentError, LotteryFLError, PayloadError, TaskError
from lotteryfl.common.experiment.differences import first_difference
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.pruning.parameters import named_masks, named_tensors
from lotteryfl.common.randomness import model_seed
from lotteryfl.common.seeding import seeded
from lotteryfl.common.tasks import Task, load_task
from lotteryfl.common.tasks.base import frozen_of
from lotteryfl.common.tasks.modelcopy import own_copy
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.training.stacked.check import check_stackable
from lotteryfl.common.training.steps import check_recipe
from lotteryfl.common.wire.format import check_model
from lotteryfl.common.wire.maskcoding import require_coder
from lotteryfl.common.wire.strategytensor import filled
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.aggregation.optimizer import ServerOptimizer
from lotteryfl.server.models.initial import take_initial
from lotteryfl.server.privacy.promise import check_privacy
from lotteryfl.server.rounds.codeversion import bind_task
from lotteryfl.server.store.extrastate import ExtraState
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.setupmark import is_set_up
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.support.drawing import drawing
from lotteryfl.server.strategies.support.firstmasks import first_masks
from lotteryfl.server.strategies.support.tensors import table_with_tensors


def create_run(path: Path, experiment: Experiment, tasks: Sequence[str]) -> RunDirectory:
    """Set up a run: the task's model, freshly initialised from the run's seed or as `task.initial` says, is θ_0.

    Raises:
        LotteryFLError: the experiment, its task or the folder cannot be used.
    """
    create_strategy(experiment)  # is there one of this name?
    return set_up(path, experiment, load_task(experiment, tasks))


def set_up(path: Path, experiment: Experiment, task: Task) -> RunDirectory:
    """Set up a run of a task that is loaded.

    Raises:
        LotteryFLError: experiment and model do not go together, or the folder cannot be used.
    """
    require_coder(experiment.mask_coding)
    strategy = create_strategy(experiment, task.score)
    with seeded(model_seed(experiment.seed)):
        model = task.model()
    initial = experiment.task.initial
    origin = {"initial_from": initial, "initial_from_sha256": take_initial(model, initial)} if initial else {}
    table = _table_of(model, experiment, task)
    whole = table_with_tensors(strategy, table)
    table = whole.model
    own_copy(model, task.name)  # can it be, as every assignment needs?
    check_recipe(experiment.training, model)
    if experiment.engine.stacked:
        check_stackable(model, task.objective)
        if strategy.local:
            raise ExperimentError(
                f"engine.stacked = {experiment.engine.stacked}: clients of strategy.name = {strategy.name!r} have code "
                f"of their own, local algorithm {strategy.local!r}, and train each by itself: expected 0"
            )
    strategy.check(table.moving)
    check_privacy(strategy, table.moving)
    if (settings := strategy.server_optimizer()).optimizer != "none":
        ServerOptimizer(settings, {})  # is it installed?
    initial_values = named_tensors(model) | filled(whole.lasting.added)
    with drawing(experiment, "initial masks"):
        masks = strategy.masks_of_initial(table.moving, initial_values)
    extra = ExtraState.of(model)
    own = first_masks(strategy, table.moving)
    run = RunDirectory.create(path, experiment, whole, initial_values, masks, extra, task.score, origin, own)
    bind_task(run, task)
    return run


def _table_of(model: nn.Module, experiment: Experiment, task: Task) -> TensorTable:
    """Return the model's table; θ_0 and table are then what results and workers are held to.

    Raises:
        TaskError: the model cannot be θ_0.
    """
    try:
        table = TensorTable.of(model, experiment.strategy.prunable, frozen_of(task))
        TensorTable.from_json(table.to_json())  # its bounds
        initial = named_tensors(model)
        TensorStream(initial)  # its names
        every = TensorTable.of(model, experiment.strategy.prunable, knows_frozen=False)  # parameters are finite
        check_model(every, initial, lambda: initial)
    except (ValueError, PayloadError) as error:
        raise TaskError(f"task {task.name}: its model cannot travel: {error}") from error
    if masks := named_masks(model):
        raise TaskError(
            f"task {task.name}: model() returned a pruned model ({next(iter(masks))!r} has a mask), and a run begins "
            "with a dense one: leave the mask out, or make its zeros values by lotteryfl.make_permanent(model)"
        )
    return table


def open_or_create_run(path: Path, experiment: Experiment, tasks: Sequence[str]) -> RunDirectory:
    """Take up the run in `path` if there is one, of the same experiment; otherwise set it up.

    Raises:
        LotteryFLError: the folder holds the run of another experiment, or cannot be used.
    """
    if not is_set_up(path):
        return create_run(path, experiment, tasks)
    run = RunDirectory(path)
    if difference := first_difference(experiment, run.experiment):
        run.close()
        raise LotteryFLError(
            f"{path}: holds the run of another experiment (here {difference.key} = {difference.found}, there "
            f"{difference.expected}); choose another --run-dir, or continue that one by naming the folder in place of "
            "the experiment"
        )
    return run
