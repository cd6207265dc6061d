"""The global model from the clients' results.

`walk` goes through the model block by block, `rules` and its modules say what becomes of a block, `update` is what
they work on.
"""

from lotteryfl.server.aggregation.update import Update
from lotteryfl.server.aggregation.walk import Combination, aggregate

__all__ = ["Combination", "Update", "aggregate"]
