"""The tables of run.db."""

SCHEMA_VERSION = 11
"""Raised with every change of the tables, with a step in `migrations` from the one before."""

OLDEST_VERSION = 6
"""Version of lotteryfl 0.1; what was made before is named, not guessed at."""

SCHEMA = """
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE rounds (
    round INTEGER PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('open', 'committed')),
    opened_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
    committed_at TEXT,
    seconds REAL,
    retries INTEGER NOT NULL DEFAULT 0,     -- how often it was tried again for want of results
    reason TEXT NOT NULL DEFAULT '',
    epsilon REAL,                           -- spent so far by the client that spent most; NULL: none is promised
    delta REAL,                             -- for which it holds
    held TEXT                               -- clients that workers held when it was opened: 0-9,12; NULL: not looked at
) STRICT;

CREATE TABLE clients (
    client INTEGER PRIMARY KEY,
    mask TEXT NOT NULL DEFAULT '',          -- digest of the mask in force; '': dense
    density REAL NOT NULL DEFAULT 1,        -- of that mask
    ticket TEXT NOT NULL DEFAULT ''         -- file of the last committed result; '': never took part
) STRICT;

CREATE INDEX clients_by_mask ON clients (mask);

CREATE TABLE assignments (
    round INTEGER NOT NULL REFERENCES rounds,
    client INTEGER NOT NULL REFERENCES clients,
    plan BLOB NOT NULL,                     -- protos: Plan
    mask TEXT NOT NULL,                     -- digest of the mask that the client starts from
    density REAL NOT NULL,                  -- of that mask
    own TEXT NOT NULL,                      -- file of the tensors or weights that are the client's own; '': none
    source TEXT NOT NULL,                   -- file of the tensors that the client starts from
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'leased', 'done', 'dropped')),
    attempt INTEGER NOT NULL DEFAULT 0,     -- of the last lease: the fencing token
    forgiven INTEGER NOT NULL DEFAULT 0,    -- attempts that do not count towards max_attempts
    worker TEXT NOT NULL DEFAULT '',        -- who holds it, or had it last
    broadcast INTEGER NOT NULL DEFAULT 0,   -- 1: the worker starts from the whole model, sent once for all its clients
    reason TEXT NOT NULL DEFAULT '',
    bytes_down INTEGER NOT NULL DEFAULT 0,
    bytes_up INTEGER NOT NULL DEFAULT 0,
    leased_at TEXT NOT NULL DEFAULT '',     -- the last lease, by the coordinator's clock; '': never
    done_at TEXT NOT NULL DEFAULT '',       -- the result that counted
    stack INTEGER,                          -- first client of those that train as one model; NULL: it trains by itself
    PRIMARY KEY (round, client)
) STRICT, WITHOUT ROWID;

CREATE TABLE results (
    round INTEGER NOT NULL,
    client INTEGER NOT NULL,
    examples INTEGER NOT NULL,
    mask TEXT NOT NULL,
    file TEXT NOT NULL,
    density REAL NOT NULL,
    train_loss REAL NOT NULL,
    seconds REAL NOT NULL,
    scale REAL NOT NULL,                    -- share of its update that is aggregated; below 1 where that was clipped
    PRIMARY KEY (round, client),
    FOREIGN KEY (round, client) REFERENCES assignments
) STRICT, WITHOUT ROWID;

CREATE INDEX results_by_client ON results (client);

CREATE TABLE refusals (
    number INTEGER PRIMARY KEY,             -- in the order in which they came
    round INTEGER NOT NULL,
    client INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,                   -- its name, without the incarnation
    reason TEXT NOT NULL,
    FOREIGN KEY (round, client) REFERENCES assignments
) STRICT;

CREATE TABLE metrics (
    round INTEGER NOT NULL,
    client INTEGER NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('validation', 'downloaded', 'personalised', 'global', 'shared')),
    examples INTEGER NOT NULL,
    loss REAL NOT NULL,
    accuracy REAL NOT NULL,
    balanced_accuracy REAL NOT NULL,
    micro_precision REAL NOT NULL,
    micro_recall REAL NOT NULL,
    macro_precision REAL NOT NULL,
    macro_recall REAL NOT NULL,
    PRIMARY KEY (round, client, phase),
    FOREIGN KEY (round, client) REFERENCES results
) STRICT, WITHOUT ROWID;

CREATE INDEX shared_metrics ON metrics (round) WHERE phase = 'shared';

CREATE TABLE measures (                     -- what a task's own objective measures beside the loss
    round INTEGER NOT NULL,
    client INTEGER NOT NULL,
    phase TEXT NOT NULL,
    name TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (round, client, phase, name),
    FOREIGN KEY (round, client, phase) REFERENCES metrics
) STRICT, WITHOUT ROWID;

CREATE TABLE events (                       -- what has happened, for people; the newest 10,000
    id INTEGER PRIMARY KEY,                 -- in the order in which it did
    at TEXT NOT NULL,                       -- by the coordinator's clock, ISO 8601, UTC
    kind TEXT NOT NULL,                     -- as started, lost, refused: see events.py
    round INTEGER NOT NULL,                 -- the open one
    client INTEGER,                         -- NULL: it is about none
    worker TEXT NOT NULL,                   -- name; '': it is about none
    text TEXT NOT NULL
) STRICT;
"""
