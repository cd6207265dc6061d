"""Whether what run.db says holds together: its pages, its rows, the rounds, every client's history."""

import json
import re
from collections import defaultdict
from pathlib import Path

from lotteryfl.common.experiment.clientranges import parse_clients
from lotteryfl.common.names import Digest
from lotteryfl.common.text import brief, quoted
from lotteryfl.common.training.score import refused_name
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.server.results.verify.report import Group
from lotteryfl.server.store.binding import bound_experiment
from lotteryfl.server.store.extension import earlier_rounds
from lotteryfl.server.store.keptmask import KeptMask, kept_masks
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import model_file
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.base import Strategy
from lotteryfl.server.strategies.support.firstmasks import first_masks
from lotteryfl.server.strategies.support.returned import returns_models

_MOST_ERRORS = 10
"""How many errors of SQLite's own check are named."""

_ROWS = """
    SELECT count(*) FROM (
        SELECT 1 FROM run UNION ALL SELECT 1 FROM rounds UNION ALL SELECT 1 FROM clients UNION ALL
        SELECT 1 FROM assignments UNION ALL SELECT 1 FROM results UNION ALL SELECT 1 FROM refusals UNION ALL
        SELECT 1 FROM metrics UNION ALL SELECT 1 FROM measures UNION ALL SELECT 1 FROM events
    )
"""
_STATES = ("running", "failed", "finished")
_MOST_TRAFFIC = 2**50
"""Bytes of an assignment, one way."""

_ORPHANS = {
    "assignments: round {}": "SELECT round FROM assignments EXCEPT SELECT round FROM rounds",
    "assignments: client {}": "SELECT client FROM assignments EXCEPT SELECT client FROM clients",
    "results: round {}, client {}": "SELECT round, client FROM results EXCEPT SELECT round, client FROM assignments",
    "refusals: round {}, client {}": "SELECT round, client FROM refusals EXCEPT SELECT round, client FROM assignments",
    "metrics: round {}, client {}": "SELECT round, client FROM metrics EXCEPT SELECT round, client FROM results",
    "measures: round {}, client {}, phase {}": (
        "SELECT round, client, phase FROM measures EXCEPT SELECT round, client, phase FROM metrics"
    ),
}
"""Rows that refer to none, by what names them."""

_IN_TIME = "iif(round < 0, -round - 0.5, round)"
"""The order in which rounds were: one of a negative number was a last measuring, before the run was made longer."""

_LAST_RESULTS = f"""
    SELECT c.client, c.mask, r.mask, c.ticket, coalesce(r.file, '')
    FROM clients c LEFT JOIN (
        SELECT client, mask, file, max({_IN_TIME}) FROM results JOIN rounds USING (round)
        WHERE rounds.state = 'committed' AND rounds.seconds IS NOT NULL
        AND round NOT IN (SELECT value FROM json_each(?)) GROUP BY client
    ) r USING (client)
"""  # noqa: S608
"""But for those of rounds that measure, or that were set aside before they were over: they are no tickets."""


def check_database(group: Group, database: Database) -> None:
    """Check pages, indices and constraints by SQLite's own means."""
    for (finding,) in database.select(f"PRAGMA integrity_check({_MOST_ERRORS})"):
        if finding != "ok":
            group.add("run.db", f"{finding} (integrity check)")
    if group.is_sound:
        group.looked_at = f"{_count(database, _ROWS)} rows in all tables"


def check_experiment(group: Group, path: Path, database: Database) -> None:
    """Check that experiment and tensor table can be read."""
    if not database.get("table"):
        group.add("run.db: run, key 'table'", "missing: the run was never finished being set up")
        return
    with group.naming("run.db: run, key 'table'"):
        table = TensorTable.from_json(database.get("table"))
    with group.naming("experiment.toml"):
        experiment = bound_experiment(path, database)
        strategy = create_strategy(experiment)
    for key in ("run_id", "initial_digest", "model_digest", "model_sha256"):
        if not database.get(key):
            group.add(f"run.db: run, key {key!r}", "missing")
    if (state := database.get("state")) not in _STATES:
        group.add("run.db: run, key 'state'", f"{quoted(state)}, expected one of {', '.join(_STATES)}")
    for key in ("model_round", "shared_bytes_down", "best_round", "ended_early"):
        if not re.fullmatch("[0-9]{1,18}", number := database.get(key, "0")):
            group.add(f"run.db: run, key {key!r}", f"{quoted(number)}, expected a number")
    if (name := database.get("score")) not in ("", "loss") and (refusal := refused_name(name)):
        group.add("run.db: run, key 'score'", f"{quoted(name)}: {refusal}")
    if database.get("shared_mask") and not _is_share(database.get("shared_density")):
        found = quoted(database.get("shared_density"))
        group.add("run.db: run, key 'shared_density'", f"{found}, expected a number from 0 to 1")
    if group.is_sound:
        table = table.model
        group.looked_at = (
            f"{strategy.name}, {experiment.clients} clients, {_rounds(database, experiment.rounds)}; "
            f"a model of {sum(spec.numel for spec in table)} values in {len(table)} tensors"
        )


def _rounds(database: Database, rounds: int) -> str:
    earlier = earlier_rounds(database)
    return f"{rounds} rounds{f' (at first {earlier[0]})' if earlier else ''}"


def check_references(group: Group, run: RunDirectory) -> None:
    """Check that rows refer to rows that are there."""
    for name, query in _ORPHANS.items():
        for row in run.database.select(query):
            group.add(f"run.db: {name.format(*row)}", "refers to a row that is not there")
    group.looked_at = "of assignments, results and metrics"


def check_rounds(group: Group, run: RunDirectory) -> None:
    """Check that rounds follow each other, and that each has its assignments, and these their results."""
    database = run.database
    rounds = list(database.select("SELECT round, state FROM rounds WHERE round > 0 ORDER BY round"))
    final, early = run.experiment.rounds + 1, database.ended_early()
    expected = 1
    for round_, _ in rounds:
        if round_ != expected:
            group.add(f"run.db: rounds: round {expected}", f"missing, and round {round_} is there")
            return
        expected = final if round_ == early else round_ + 1
    for index, (round_, state) in enumerate(rounds, start=1):
        if round_ > final or (state == "open" and index < len(rounds)):
            what = f"{state!r} of {len(rounds)} rounds, expected only the last to be open, and none after {final}"
            group.add(f"run.db: rounds: round {round_}", what)
    for (round_,) in database.select("SELECT round FROM rounds WHERE round <= 0"):
        if -round_ - 1 not in earlier_rounds(database):
            group.add(f"run.db: rounds: round {round_}", "set aside, and the run never had so many rounds")
    committed = sum(state == "committed" for _, state in rounds)
    whole = (early or run.experiment.rounds) + 1
    if ((state := database.get("state")) == "finished") != (committed == whole):
        group.add("run.db: run, key 'state'", f"{state!r} with {committed} of {whole} rounds committed")
    for round_, client in database.select(
        "SELECT round, client FROM assignments WHERE round BETWEEN 1 AND ? AND client >= ?",
        run.experiment.rounds,
        run.experiment.participants,
    ):
        what = f"new, expected none from {run.experiment.participants} on before the last round"
        group.add(f"run.db: assignments: round {round_}, client {client}", what)
    _check_sizes(group, run)
    _check_attendance(group, run)
    _check_assignments(group, run)
    for round_, client, down, up in database.select(
        "SELECT round, client, bytes_down, bytes_up FROM assignments "
        "WHERE min(bytes_down, bytes_up) < 0 OR max(bytes_down, bytes_up) > ?",
        _MOST_TRAFFIC,
    ):
        what = f"{down} bytes down and {up} up, expected 0 to {_MOST_TRAFFIC}"
        group.add(f"run.db: assignments: round {round_}, client {client}", what)
    assignments = _count(database, "SELECT count(*) FROM assignments")
    results = _count(database, "SELECT count(*) FROM results")
    group.looked_at = (
        f"{committed} committed, {len(rounds) - committed} open; {assignments} assignments, {results} results"
    )


def _check_sizes(group: Group, run: RunDirectory) -> None:
    experiment, strategy = run.experiment, create_strategy(run.experiment)
    for round_, state, held, assignments, results in run.database.select(
        "SELECT round, state, held, (SELECT count(*) FROM assignments a WHERE a.round = rounds.round), "
        "(SELECT count(*) FROM results r WHERE r.round = rounds.round) FROM rounds"
    ):
        where = f"run.db: rounds: round {round_}"
        is_training = 0 < round_ <= experiment.rounds
        expected = strategy.sample_size(round_) if is_training else experiment.clients
        if held is None and assignments != expected:
            group.add(where, f"{assignments} assignments, expected {expected}")
        if round_ > 0 and state == "committed" and results < (least := experiment.round.min_results):
            group.add(where, f"committed with {results} results, expected at least {least}")


def _check_attendance(group: Group, run: RunDirectory) -> None:
    """Check that rounds of a strategy that goes by who is there have clients of those alone."""
    for round_, held in run.database.select("SELECT round, held FROM rounds WHERE held IS NOT NULL"):
        where, assigned = f"run.db: rounds: round {round_}", run.database.attempts(round_).keys()
        if any(int(number) >= run.experiment.participants for number in re.findall("[0-9]{1,9}", held)):
            group.add(f"{where}, held", f"{quoted(held)}, expected clients below {run.experiment.participants}")
            continue  # or there might be millions
        try:
            away = assigned - parse_clients(held)
        except ValueError as error:
            group.add(f"{where}, held", str(error))
            continue
        if away or not assigned:
            what = f"client {min(away)}" if away else "nobody"
            group.add(where, f"{what} takes part, expected some of those who were there: {brief(held)}")


def _check_assignments(group: Group, run: RunDirectory) -> None:
    """Check that work is settled where its round is over, and has a result exactly where it is done."""
    for round_, client, state in run.database.select(
        "SELECT round, client, a.state FROM assignments a JOIN rounds USING (round) "
        "WHERE rounds.state = 'committed' AND a.state NOT IN ('done', 'dropped')"
    ):
        what = f"{state!r}, expected 'done' or 'dropped': its round is committed"
        group.add(f"run.db: assignments: round {round_}, client {client}", what)
    for round_, client, forgiven, attempt in run.database.select(
        "SELECT round, client, forgiven, attempt FROM assignments WHERE forgiven NOT BETWEEN 0 AND attempt"
    ):
        what = f"{forgiven} of its attempts forgiven, expected 0 to {attempt}"
        group.add(f"run.db: assignments: round {round_}, client {client}", what)
    for round_, client, state, has_result in run.database.select(
        "SELECT a.round, a.client, a.state, r.client IS NOT NULL FROM assignments a LEFT JOIN results r "
        "USING (round, client) WHERE (a.state = 'done') != (r.client IS NOT NULL)"
    ):
        what = f"{state!r} with a result, expected 'done'" if has_result else "'done', and has no result"
        group.add(f"run.db: assignments: round {round_}, client {client}", what)
    for round_, client, phases in run.database.select(
        "SELECT round, client, (SELECT count(*) FROM metrics m WHERE (m.round, m.client) = (r.round, r.client) "
        "AND phase IN ('downloaded', 'personalised')) AS phases FROM results r WHERE phases < 2"
    ):
        what = f"{phases} of its metrics, expected 'downloaded' and 'personalised'"
        group.add(f"run.db: results: round {round_}, client {client}", what)
    if not run.score.own or run.score.name == "loss":
        return
    for round_, client, phase in run.database.select(
        "SELECT round, client, phase FROM metrics EXCEPT SELECT round, client, phase FROM measures WHERE name = ?",
        run.score.name,
    ):
        where = f"run.db: metrics: round {round_}, client {client}, phase {phase}"
        group.add(where, f"{quoted(run.score.name)}, the run's score, is not among its measures")


def check_clients(group: Group, run: RunDirectory) -> None:
    """Check that every client has the mask and the ticket of its last committed result, and starts from them."""
    database, strategy = run.database, create_strategy(run.experiment)
    count, last = run.experiment.clients, -1
    for last, row in enumerate(database.clients()):
        if row.client != last:
            group.add(f"run.db: clients: client {last}", f"missing: client {row.client} is next")
            return
    if last + 1 != count:
        group.add("run.db: clients", f"{last + 1} rows, expected {count} as the experiment says")
    first = _first_masks(run, strategy)
    measuring = [round_ for round_ in range(1, run.experiment.rounds + 1) if not returns_models(strategy, round_)]
    for client, mask, its_mask, *files in database.select(_LAST_RESULTS, json.dumps(measuring)):
        last_mask = first[client].digest if its_mask is None else its_mask
        _compare(group, f"run.db: clients: client {client}", mask, last_mask, *files, of="its last committed result")
    shared = model_file(run.model_round)
    for round_, client, mask, its_mask, source, its_source, own, ticket in database.select(
        "SELECT round, client, a.mask, c.mask, a.source, iif(? OR c.ticket = '', ?, c.ticket), a.own, c.ticket "
        "FROM assignments a JOIN clients c USING (client) JOIN rounds USING (round) WHERE rounds.state = 'open'",
        *(strategy.aggregates, shared),
    ):
        where = f"run.db: assignments: round {round_}, client {client}"
        if strategy.starts_under == "own mask":
            _compare(group, where, mask, its_mask, source, its_source, of="the client's")
        else:
            _compare(group, where, mask, _mask_of_all(run, strategy), source, its_source, of="all clients have")
        if own not in ("", ticket):
            group.add(where, f"own file {quoted(own)}, expected {quoted(ticket)} as the client's")
    tickets = _count(database, "SELECT count(*) FROM clients WHERE ticket != ''")
    group.looked_at = f"{last + 1}, {tickets} with a ticket"


def check_history(group: Group, run: RunDirectory) -> None:
    """Check what every client's work began under, and that no result keeps more than that.

    Under masks of its own a client goes on from that of its last result, and only ever loses weights.
    """
    database, strategy = run.database, create_strategy(run.experiment)
    if strategy.starts_under == "own mask":
        _check_own_masks(group, run, strategy)
    else:
        _check_masks_of_all(group, run, strategy)
    for round_, client, scale in database.select(
        "SELECT round, client, scale FROM results WHERE scale <= 0 OR scale > 1"
    ):
        group.add(f"run.db: results: round {round_}, client {client}", f"scale {scale:.6g}, expected more than 0 to 1")
    results = _count(database, "SELECT count(*) FROM results")
    group.looked_at = f"masks and densities of {results} results"


def _check_masks_of_all(group: Group, run: RunDirectory, strategy: Strategy) -> None:
    """Check that in every round all clients began under one mask, or none, and that results keep no more than that."""
    rounds = run.database.select(
        "SELECT round, count(DISTINCT mask || ' ' || density), max(mask) FROM assignments GROUP BY round"
    )
    for round_, different, mask in rounds:
        if different > 1 or (mask and strategy.starts_under == "no mask"):
            what = f"{different} masks, as {_short(mask)}, expected {strategy.starts_under} for all clients"
            group.add(f"run.db: assignments: round {round_}", what)
    results = run.database.select(
        "SELECT round, client, r.density, a.density FROM results r JOIN assignments a USING (round, client)"
    )
    for round_, client, density, density_before in results:
        if not 0 <= density <= (most := 1.0 if strategy.mask_rule == "free" else density_before):
            what = f"density {density:.6g}, expected 0 to {most:.6g} as it started from"
            group.add(f"run.db: results: round {round_}, client {client}", what)


def _check_own_masks(group: Group, run: RunDirectory, strategy: Strategy) -> None:
    first, rule = _first_masks(run, strategy), strategy.mask_rule
    steps = f"""
        SELECT r.round, r.client, a.mask AS mask_before, lag(r.mask) OVER past AS mask_last,
               lag(r.density) OVER past AS density_before, r.density AS density, r.mask AS mask
        FROM results r JOIN assignments a USING (round, client)
        WINDOW past AS (PARTITION BY r.client ORDER BY {_IN_TIME})
    """  # noqa: S608
    for round_, client, mask_before, mask_last, density_before, density, mask in run.database.select(steps):
        where = f"run.db: results: round {round_}, client {client}"
        if mask_last is None:
            mask_last, density_before = first[client]
        if mask_before != mask_last:
            what = f"started from mask {_short(mask_before)}, expected {_short(mask_last)} of its last result"
            group.add(where, what)
        if rule == "free":
            if not 0 <= density <= 1:
                group.add(where, f"density {density:.6g}, expected 0 to 1")
        elif not 0 <= density <= density_before:
            group.add(
                where, f"density {density:.6g}, expected 0 to {density_before:.6g} as before: a mask only shrinks"
            )
        elif rule == "shrinks" and mask_before and (mask == mask_before) != (density == density_before):
            what = f"mask {_short(mask)} after {_short(mask_before)}, density {density:.6g} after {density_before:.6g}"
            group.add(where, f"{what}: expected both to change, or neither")


def _first_masks(run: RunDirectory, strategy: Strategy) -> dict[int, KeptMask]:
    """Return by client what each started its first round under."""
    own = kept_masks(run.table, first_masks(strategy, run.table))
    return defaultdict(lambda: KeptMask(Digest(""), 1.0), {client: kept for client, kept, _ in own})


def _mask_of_all(run: RunDirectory, strategy: Strategy) -> str:
    return "" if strategy.starts_under == "no mask" else run.database.get("shared_mask")


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _compare(group: Group, where: str, mask: str, its_mask: str, file: str, its_file: str, *, of: str) -> None:
    if mask != its_mask:
        group.add(where, f"mask {_short(mask)}, expected {_short(its_mask)} as {of}")
    if file != its_file:
        group.add(where, f"file {quoted(file)}, expected {quoted(its_file)} as {of}")


def _short(mask: str) -> str:
    return quoted(mask[:12]) if mask else "none"


def _count(database: Database, query: str) -> int:
    ((count,),) = database.select(query)
    return int(count)
