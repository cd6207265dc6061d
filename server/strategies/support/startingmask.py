"""The one mask that sparse training starts under, of which strategies have the options in common.

A mask that is drawn keeps weights of all magnitudes, and each layer passes on √density of what came: at a density of
0.1 next to nothing is left after four, and training begins on a plateau (Evci et al. 2022, "Gradient Flow in Sparse
Neural Networks and How Lottery Tickets Win"). Published code keeps the largest magnitudes of θ_0: FedDST's own
(github.com/bibikar/feddst at 25d61843, models.py) nearly alike in every layer, FedPruning's FedDST, FedTiny and FedRTS
(github.com/FedPruning/FedPruning at 70698813, api/pruning/model_pruning.py, "ERK_magnitude") more of small layers.
"""

from collections.abc import Mapping

from torch import Tensor

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.layerdensities import LAYER_DENSITIES, LayerDensities
from lotteryfl.common.randomness import derive_seed
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.strategies.support.options import choice
from lotteryfl.server.strategies.support.sharedmask import densities_of, drawn, largest_of_each

STARTING = ("first_mask", "densities")
"""The options in common."""


def check_starting(experiment: Experiment) -> None:
    """Check the options in common.

    Raises:
        ExperimentError: one makes no sense.
    """
    first_mask(experiment)
    densities_by(experiment)


def starting_mask(experiment: Experiment, table: TensorTable, initial: Mapping[str, Tensor]) -> Masks:
    """Return the first mask, drawn or of θ_0.

    Args:
        experiment: of the run.
        table: of what moves of its model.
        initial: θ_0, by name.
    """
    by_magnitude = first_mask(experiment) == "magnitude"
    values = initial if by_magnitude else drawn(table, derive_seed(experiment.seed, "initial mask"))
    return largest_in_layers(experiment, table, values)


def largest_in_layers(experiment: Experiment, table: TensorTable, values: Mapping[str, Tensor]) -> Masks:
    """Return the mask that keeps of every prunable tensor the largest values, as many as it has at first."""
    return largest_of_each(table, values, starting_densities(experiment, table))


def starting_densities(experiment: Experiment, table: TensorTable) -> dict[str, float]:
    """Return by name which share of each prunable tensor is kept, at first and ever after."""
    return densities_of(table, experiment.strategy.target_density, densities_by(experiment))


def first_mask(experiment: Experiment) -> str:
    """Return `options.first_mask`: drawn at "random", or of the largest "magnitude" of θ_0.

    Raises:
        ExperimentError: it is neither.
    """
    return choice(experiment, "first_mask", "random", "magnitude")


def densities_by(experiment: Experiment) -> LayerDensities:
    """Return `options.densities`: "uniform", or "erk", by layer size.

    Raises:
        ExperimentError: it is neither.
    """
    return choice(experiment, "densities", *LAYER_DENSITIES)
