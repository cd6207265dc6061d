"""What a run has come to, as a table at its end."""

from typing import Any

from tabulate import tabulate

from lotteryfl.server.privacy.accountant import epsilons
from lotteryfl.server.results.spread import spread
from lotteryfl.server.store.advice import advice
from lotteryfl.server.store.globalcurve import global_curve
from lotteryfl.server.store.record import RunRecord
from lotteryfl.server.store.summaries import (
    client_summaries,
    left_out,
    measured,
    new_clients,
    round_summaries,
    scores_of,
)

_ATTENDANCE = "bits depend on attendance: the strategy draws clients by who is there, so another run comes to others"


def final_table(run: RunRecord) -> str:
    """Return the table of all clients after the last round: their means and spread, and the best round's means.

    New clients have a table of their own. Of a client that is left out of that round there is its number alone. Where
    the task has an objective of its own, there is another table, of all that it measures.
    """
    score = run.score
    clients = client_summaries(run.database, run.experiment.rounds + 1)
    if not clients:  # all but new ones sat it out
        return "\n\n".join(filter(None, (_newcomers(run), _curve(run))))
    columns: dict[str, list[float]] = {
        f"{score.name} downloaded": [client.score_downloaded for client in clients],
        "personalised": [client.score_personalised for client in clients],
    }
    if all(client.score_global is not None for client in clients):
        columns["global"] = [client.score_global or 0.0 for client in clients]
    scores = len(columns)
    columns["density"] = [client.density for client in clients]
    columns["bytes down"] = [client.bytes_down for client in clients]
    columns["bytes up"] = [client.bytes_up for client in clients]
    if run.experiment.privacy.is_promised:
        spent = epsilons(run.database, run.experiment)
        columns["ε"] = [spent.get(client.client, 0.0) for client in clients]
    spreads = [spread(column, higher_is_better=score.higher_is_better) for column in columns.values()]
    by_round = [scores_of(summary, score) for summary in round_summaries(run.database)]
    rows: list[list[Any]] = [
        [client.client, *values] for client, values in zip(clients, zip(*columns.values(), strict=True), strict=True)
    ]
    missing = [each.client for each in left_out(run.database, run.experiment.rounds + 1)]
    rows += [[client] for client in missing if client < run.experiment.participants]
    rows.sort(key=lambda row: row[0])
    rows += [
        ["mean", *(each.mean for each in spreads)],
        ["std", *(each.std for each in spreads)],
        ["worst 10 %", *(each.worst_decile for each in spreads[:scores])],
        [
            "best round",
            score.best(each.downloaded for each in by_round),
            score.best(each.personalised for each in by_round),
        ],
    ]
    formats = ["", *[score.digits] * scores, ".3f", ",.0f", ",.0f", ".2f"]
    table = tabulate(rows, headers=["client", *columns], floatfmt=formats, intfmt=",")
    said = advice(run.database, run.experiment)
    others = [_values(run) if score.own else "", _newcomers(run), _curve(run), f"advice: {said}" if said else ""]
    others.append(_ATTENDANCE if run.database.went_by_attendance() else "")
    return "\n\n".join([table, *filter(None, others)])


def _newcomers(run: RunRecord) -> str:
    """Return the table of the clients that took part in no round; '': there are none."""
    clients = new_clients(run.database, run.experiment.rounds + 1)
    if not clients:
        return ""
    columns = [[client.score_downloaded for client in clients], [client.score_personalised for client in clients]]
    rows: list[list[Any]] = [[client.client, *values] for client, *values in zip(clients, *columns, strict=True)]
    rows.append(["mean", *(spread(column).mean for column in columns)])
    headers = ["new client", f"{run.score.name} downloaded", "personalised"]
    return tabulate(rows, headers=headers, floatfmt=run.score.digits)


def _curve(run: RunRecord) -> str:
    """Return in one line what the shared model was worth on global test data; '': it was not measured."""
    curve, score = global_curve(run.database), run.score
    if not curve:
        return ""
    best = max(curve, key=lambda point: score.rank(point.values[score.name]))
    told = [
        f"{what}{point.values[score.name]:{score.digits}} after round {point.round}"
        for what, point in (("", curve[-1]), ("best ", best))
    ]
    return f"shared model on {curve[-1].examples:,} global test examples: {score.name} {', '.join(told)}"


def _values(run: RunRecord) -> str:
    """Return the table of all that the task's objective measures, the score first."""
    columns = measured(run.database, run.experiment.rounds + 1)
    names = run.score.first_of(columns["downloaded"])
    rows = [[name, *(column[name] for column in columns.values())] for name in names]
    return tabulate(rows, headers=["mean over clients", *columns], floatfmt=run.score.digits)
