"""What a run has come to, as a table at its end."""

from typing import Any

from tabulate import tabulate

from lotteryfl.server.privacy.accountant import epsilons
from lotteryfl.server.results.spread import spread
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.summaries import client_summaries, left_out, round_summaries


def final_table(run: RunDirectory) -> str:
    """Return the table of all clients after the last round: their means and spread, and the best round's means.

    Of a client that is left out of that round there is its number alone.
    """
    clients = client_summaries(run.database, run.experiment.rounds + 1)
    columns: dict[str, list[float]] = {
        "accuracy downloaded": [client.accuracy_downloaded for client in clients],
        "personalised": [client.accuracy_personalised for client in clients],
    }
    if all(client.accuracy_global is not None for client in clients):
        columns["global"] = [client.accuracy_global or 0.0 for client in clients]
    accuracies = len(columns)
    columns["density"] = [client.density for client in clients]
    columns["bytes down"] = [client.bytes_down for client in clients]
    columns["bytes up"] = [client.bytes_up for client in clients]
    if run.experiment.privacy.is_promised:
        spent = epsilons(run.database, run.experiment)
        columns["ε"] = [spent.get(client.client, 0.0) for client in clients]
    spreads = [spread(column) for column in columns.values()]
    best = round_summaries(run.database)
    rows: list[list[Any]] = [
        [client.client, *values] for client, values in zip(clients, zip(*columns.values(), strict=True), strict=True)
    ]
    rows += [[missing.client] for missing in left_out(run.database, run.experiment.rounds + 1)]
    rows.sort(key=lambda row: row[0])
    rows += [
        ["mean", *(each.mean for each in spreads)],
        ["std", *(each.std for each in spreads)],
        ["worst 10 %", *(each.worst_decile for each in spreads[:accuracies])],
        [
            "best round",
            max(summary.accuracy_downloaded for summary in best),
            max(summary.accuracy_personalised for summary in best),
        ],
    ]
    formats = ["", *[".3f"] * (accuracies + 1), ",.0f", ",.0f", ".2f"]
    return tabulate(rows, headers=["client", *columns], floatfmt=formats, intfmt=",")
