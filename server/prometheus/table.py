"""The metrics of a coordinator; docs/seeing.md has the same table."""

from typing import get_args

from lotteryfl.common.prometheus.build import BUILD
from lotteryfl.common.prometheus.described import Described
from lotteryfl.server.store.assignments import State

DEVICES = ("cpu", "cuda", "mps", "xpu", "other", "unknown")
"""Kinds that workers are counted by: what a worker calls its device is its own word, and becomes no label."""

METRICS = (
    BUILD,
    Described("lotteryfl_run_info", "gauge", "now", "1; the run's strategy and what it is judged by are its labels."),
    Described(
        "lotteryfl_run_state", "gauge", "now", "1 for the state of the run.", "state", ("running", "finished", "failed")
    ),
    Described("lotteryfl_rounds_planned", "gauge", "now", "Rounds, the last measuring of every client among them."),
    Described("lotteryfl_rounds_committed_total", "counter", "run", "Rounds that are committed."),
    Described("lotteryfl_last_commit_timestamp_seconds", "gauge", "run", "When the last round was committed."),
    Described("lotteryfl_round_seconds", "histogram", "run", "How long committed rounds took."),
    Described("lotteryfl_round", "gauge", "now", "Number of the open round."),
    Described("lotteryfl_round_retries", "gauge", "now", "How often the open round was tried again."),
    Described(
        "lotteryfl_round_assignments",
        "gauge",
        "now",
        "Assignments of the open round, by how they stand.",
        "state",
        get_args(State),
    ),
    Described("lotteryfl_results_accepted_total", "counter", "run", "Results that count."),
    Described("lotteryfl_results_refused_total", "counter", "run", "Results that were refused."),
    Described(
        "lotteryfl_results_unwanted_total",
        "counter",
        "process",
        "Results that changed nothing: counted already, or their lease or round was over.",
        "verdict",
        ("duplicate", "stale"),
    ),
    Described("lotteryfl_leases_given_total", "counter", "process", "Leases of assignments that were given."),
    Described(
        "lotteryfl_leases_ended_total",
        "counter",
        "process",
        "Leases that ended: with a result that counts, or how else.",
        "how",
        ("returned", "expired", "handed_back", "taken_back", "refused", "withdrawn", "late"),
    ),
    Described(
        "lotteryfl_traffic_bytes_total",
        "counter",
        "run",
        "Bytes sent to workers and received from them, as far as they are on record.",
        "direction",
        ("down", "up"),
    ),
    Described(
        "lotteryfl_workers", "gauge", "now", "Workers heard of within a lease time, by device.", "device", DEVICES
    ),
    Described("lotteryfl_workers_aside", "gauge", "run", "Workers put aside for refused results."),
    Described(
        "lotteryfl_round_stage_seconds",
        "summary",
        "process",
        "What the last steps of rounds took.",
        "stage",
        ("aggregate", "commit"),
    ),
    Described(
        "lotteryfl_score",
        "gauge",
        "run",
        "Mean over clients in the last committed round of what the run is judged by.",
        "model",
        ("downloaded", "personalised"),
    ),
    Described("lotteryfl_density", "gauge", "run", "Mean kept share of the prunable weights, in the same round."),
    Described(
        "lotteryfl_train_loss",
        "gauge",
        "run",
        "Mean training loss of the same round; absent where privacy keeps it back.",
    ),
    Described(
        "lotteryfl_privacy_epsilon",
        "gauge",
        "run",
        "Spent so far by the client that spent most; absent without a promise.",
    ),
    Described("lotteryfl_run_directory_free_bytes", "gauge", "now", "What can still be written to the run's disk."),
    Described("lotteryfl_run_directory_disk_bytes", "gauge", "now", "How large that disk is."),
)
"""In the order in which they are documented."""
