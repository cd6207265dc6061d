"""Flower's side of `benchmarks.peer`, run by a Python that has flwr: a server or a client over its gRPC transport.

flower.py server HOST:PORT ROUNDS CLIENTS SHAPES    prints a line of JSON: when each round began
flower.py client HOST:PORT
"""

import json
import sys
import time

import numpy as np
import numpy.typing as npt
from flwr.client import NumPyClient, start_client
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerConfig, start_server
from flwr.server.strategy import FedAvg

Arrays = list[npt.NDArray[np.float32]]


class Adding(NumPyClient):  # type: ignore[misc] # of a library that is not here
    """Adds a constant to every array, in the place of training."""

    def fit(self, parameters: Arrays, config: dict[str, object]) -> tuple[Arrays, int, dict[str, object]]:
        """Return new arrays, of one example."""
        del config
        return [array + np.float32(1e-3) for array in parameters], 1, {}


def serve(address: str, rounds: int, clients: int, shapes: list[list[int]]) -> list[float]:
    """Run so many rounds with its FedAvg as it is; return when each began."""
    begun: list[float] = []

    def note(_round: int) -> dict[str, object]:
        begun.append(time.perf_counter())
        return {}

    random = np.random.default_rng(0)
    initial = [random.standard_normal(shape, dtype=np.float32) for shape in shapes]
    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_fit_clients=clients,
        min_available_clients=clients,
        on_fit_config_fn=note,
        initial_parameters=ndarrays_to_parameters(initial),
    )
    start_server(server_address=address, config=ServerConfig(num_rounds=rounds), strategy=strategy)
    return begun


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server", address, rounds, clients, shapes]:
            print(json.dumps(serve(address, int(rounds), int(clients), json.loads(shapes))))
        case ["client", address]:
            start_client(server_address=address, client=Adding().to_client(), insecure=True)
        case _:
            sys.exit(__doc__)
