"""Where a launch stands, by what the cluster says of it."""

import pytest

from lotteryfl.launching.kubernetes.state import standing_of, trouble_of, workers_of
from lotteryfl.launching.launcher import Stage, Standing
from tests.support.kubernetes import Object, job, pod, waiting

JOBS = [job("coordinator"), job("worker")]


def unscheduled(role: str) -> Object:
    found = pod(role, waiting(""))
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no GPU"}
    found["status"] = {"phase": "Pending", "conditions": [condition]}
    return found


@pytest.mark.parametrize(
    ("objects", "standing"),
    [
        ([job("worker")], Standing(Stage.ENDED, "the coordinator's Job is gone: somebody has removed it", 1)),
        (JOBS, Standing(Stage.WAITING, "the coordinator has no pod yet")),
        (
            [job("coordinator", Suspended="JobSuspended"), job("worker")],
            Standing(Stage.WAITING, "the coordinator's Job is suspended, and waits in its queue"),
        ),
        (
            [*JOBS, unscheduled("coordinator")],
            Standing(Stage.WAITING, "pod run-a-coordinator: Unschedulable: 0/3 nodes: no GPU"),
        ),
        (
            [*JOBS, pod("coordinator", waiting("ErrImagePull", "not found"))],
            Standing(Stage.WAITING, "pod run-a-coordinator: ErrImagePull: not found"),
        ),
        (
            [
                *JOBS,
                pod("coordinator", waiting("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: not found')),
            ],
            Standing(Stage.WAITING, "pod run-a-coordinator: ErrImagePull: not found"),
        ),
        (
            [*JOBS, pod("coordinator", waiting("ContainerCreating"))],
            Standing(Stage.WAITING, "pod run-a-coordinator: starts"),
        ),
        (
            [*JOBS, pod("coordinator", ready=True), pod("worker", waiting("InvalidImageName", "cannot be parsed"))],
            Standing(Stage.ENDED, "pod run-a-worker: InvalidImageName: cannot be parsed", 1),
        ),
        ([*JOBS, pod("coordinator")], Standing(Stage.WAITING, "pod run-a-coordinator: starts")),
        ([*JOBS, pod("coordinator", ready=True)], Standing(Stage.RUNNING)),
        (
            [*JOBS, pod("coordinator", ended=(137, "killed"))],
            Standing(Stage.WAITING, "pod run-a-coordinator: exit code 137: killed"),
        ),
        (
            [
                job("coordinator", Complete="CompletionsReached"),
                job("worker", Failed="x"),
                pod("worker", ended=(5, "")),
            ],
            Standing(Stage.ENDED),
        ),
        (
            [job("coordinator", Failed="BackoffLimitExceeded"), pod("coordinator", ended=(137, "one\nOOM killed"))],
            Standing(
                Stage.ENDED,
                "the coordinator's Job has failed (BackoffLimitExceeded): "
                "pod run-a-coordinator: exit code 137: OOM killed",
                137,
            ),
        ),
        (
            [job("coordinator"), job("worker", Failed="PodFailurePolicy"), pod("worker", ended=(5, "another version"))],
            Standing(
                Stage.ENDED,
                "the worker's Job has failed (PodFailurePolicy): pod run-a-worker: exit code 5: another version",
                1,
            ),
        ),
    ],
)
def test_a_launch_stands_where_its_jobs_and_pods_do(objects: list[Object], standing: Standing) -> None:
    assert standing_of(objects) == standing


def test_no_failure_has_the_code_of_a_finished_run() -> None:
    failed = standing_of([job("coordinator", Failed="PodFailurePolicy"), pod("coordinator", ended=(3, "left out"))])
    assert (failed.stage, failed.code) == (Stage.ENDED, 1)


def test_the_clusters_newest_warning_is_told_but_not_that_one_does_not_listen_yet() -> None:
    def event(reason: str, time: str, name: str = "run-a-coordinator-x") -> Object:
        involved = {"name": name}
        return {
            "involvedObject": involved,
            "reason": reason,
            "message": f"at {time}",
            "lastTimestamp": f"2026-01-01T{time}",
        }

    events = [event("FailedMount", "10:00"), event("FailedCreate", "09:00"), event("Unhealthy", "11:00")]
    assert trouble_of([*events, event("BackOff", "12:00", "another")], "run-a-coordinator") == "FailedMount: at 10:00"
    assert trouble_of([*events[2:], event("FailedScheduling", "12:00")], "run-a-coordinator") == ""


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([], ""),
        ([job("worker", 4), pod("worker", ready=True)], "workers: 1 of 4 pods run"),
        (
            [job("worker"), pod("worker", ready=True), unscheduled("worker")],
            "workers: 1 of 2 pods run; pod run-a-worker: Unschedulable: 0/3 nodes: no GPU",
        ),
        (
            [job("worker"), pod("worker", ended=(1, "coordinator cannot be reached"))],
            "workers: 0 of 2 pods run; pod run-a-worker: exit code 1: coordinator cannot be reached",
        ),
        ([job("worker", Suspended="JobSuspended")], "workers: their Job is suspended, and 2 wait in its queue"),
    ],
)
def test_of_workers_it_is_said_how_many_run_and_why_not_all(objects: list[Object], said: str) -> None:
    assert workers_of(objects) == said
