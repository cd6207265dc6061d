import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lotteryfl.common.errors import TaskError
from lotteryfl.common.experiment.settings import PartitionSettings
from lotteryfl.common.randomness import generator
from lotteryfl.common.tasks.partition import ClientIndices, Partition, decks, stratified_split
from lotteryfl.common.tasks.partition.classes import apportion
from lotteryfl.common.tasks.partition.decks import Decks

KINDS = ("n-class", "dirichlet", "iid", "feature-skew", "natural")


def labels_of(per_class: int, classes: int = 10) -> np.ndarray:
    """Shuffled, so that nothing can rest on the order of the data."""
    return np.random.default_rng(7).permutation(np.repeat(np.arange(classes), per_class))


TRAIN, TEST = labels_of(100), labels_of(25)


def owners_of(labels: np.ndarray, owners: int = 60) -> np.ndarray:
    """Everybody owns a share of every class."""
    return (np.random.default_rng(8).permutation(len(labels)) % owners) * 7


def deal(clients: int = 20, seed: int = 0, train: Any = TRAIN, test: Any = TEST, **keys: Any) -> list[ClientIndices]:
    partition = make(train, test, clients, seed, **keys)
    return [partition.client(client) for client in range(clients)]


def make(train: np.ndarray, test: np.ndarray, clients: int, seed: int, **keys: Any) -> Partition:
    owners = (owners_of(train), owners_of(test)) if keys.get("kind") == "natural" else None
    return Partition(train, test, PartitionSettings(**keys), clients, seed, owners)


def held(client: ClientIndices) -> np.ndarray:
    return np.concatenate([client.train, client.validation])


def same(one: ClientIndices, other: ClientIndices) -> bool:
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in ("train", "validation", "test"))


@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(1, 10),
    size=st.integers(5, 100),
    balance=st.floats(0.2, 1),
    clients=st.integers(1, 60),
    seed=st.integers(0, 2**63 - 1),
)
def test_n_class_holds_distinct_classes_of_the_stated_sizes(
    classes: int, size: int, balance: float, clients: int, seed: int
) -> None:
    dealt = deal(clients, seed, kind="n-class", classes_per_client=classes, examples_per_class=size, balance=balance)
    for client in dealt:
        _, counts = np.unique(TRAIN[held(client)], return_counts=True)
        assert sorted(counts) == sorted([size] + [round(balance * size)] * (classes - 1))
        assert len(np.unique(held(client))) == len(held(client))


@pytest.mark.parametrize("kind", KINDS)
def test_train_validation_and_test_do_not_mix(kind: Any) -> None:
    for client in deal(60, kind=kind):
        assert not np.intersect1d(client.train, client.validation).size
        assert len(np.unique(client.test)) == len(client.test)
        assert min(len(client.train), len(client.validation), len(client.test)) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_is_in_training_and_validation(kind: Any) -> None:
    for client in deal(kind=kind, validation_share=0.2):
        classes, counts = np.unique(TRAIN[held(client)], return_counts=True)
        for label, count in zip(classes, counts, strict=True):
            in_validation = np.sum(TRAIN[client.validation] == label)
            assert in_validation == (max(1, round(0.2 * count)) if count > 1 else 0)
            assert np.sum(TRAIN[client.train] == label) == count - in_validation > 0


def test_the_personal_test_set_is_every_test_example_of_the_clients_classes() -> None:
    uneven = np.repeat(np.arange(10), np.arange(5, 15))  # no class boundary at a round number
    for client in deal(kind="n-class", test=uneven):
        expected = [index for index, label in enumerate(uneven) if label in set(TRAIN[held(client)])]
        np.testing.assert_array_equal(client.test, expected)


def test_classes_are_held_by_equally_many_clients() -> None:
    for clients in (10, 23):
        holders = np.zeros(10, dtype=int)
        for client in deal(clients, kind="n-class", classes_per_client=3):
            holders[np.unique(TRAIN[held(client)])] += 1
        assert holders.max() - holders.min() <= 1
        assert holders.sum() == 3 * clients


def test_clients_and_seeds_differ_in_their_classes() -> None:
    pairs = {tuple(np.unique(TRAIN[held(client)])) for client in deal(40, kind="n-class")}
    assert len(pairs) > 10
    assert len({tuple(np.unique(TRAIN[held(deal(1, seed)[0])])) for seed in range(20)}) > 5


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("n-class", {"classes_per_client": 2, "examples_per_class": 20}),
        ("iid", {"examples_per_client": 40}),
    ],
)
def test_no_example_has_two_owners_while_the_data_lasts(kind: Any, keys: dict[str, Any]) -> None:
    owned = np.concatenate([held(client) for client in deal(25, kind=kind, **keys)])
    assert len(owned) == 1000 == len(np.unique(owned))


def test_used_up_pools_are_dealt_again_and_stay_even() -> None:
    clients = deal(37, kind="n-class", classes_per_client=3, examples_per_class=30)
    times = np.bincount(np.concatenate([held(client) for client in clients]), minlength=len(TRAIN))
    for label in range(10):
        of_class = times[label == TRAIN]
        assert of_class.max() - of_class.min() <= 1
    assert all(len(np.unique(held(client))) == 90 for client in clients)


def test_a_client_may_hold_a_whole_class() -> None:
    for client in deal(30, kind="n-class", classes_per_client=1, examples_per_class=100):
        assert len(np.unique(held(client))) == 100


@settings(max_examples=40, deadline=None)
@given(alpha=st.floats(0.05, 100), seed=st.integers(0, 1000))
def test_dirichlet_gives_train_and_test_the_same_proportions(alpha: float, seed: int) -> None:
    for client in deal(5, seed, kind="dirichlet", alpha=alpha, examples_per_client=80):
        wanted = np.bincount(TRAIN[held(client)], minlength=10) / 80
        assert held(client).size == 80
        tested = np.bincount(TEST[client.test], minlength=10)
        assert np.abs(tested - wanted * len(client.test)).max() < 1
        assert len(client.test) >= 25  # at least one class is tested whole


def test_dirichlet_follows_alpha() -> None:
    def largest_share(alpha: float) -> float:
        clients = deal(40, kind="dirichlet", alpha=alpha)
        return float(np.mean([np.bincount(TRAIN[held(client)]).max() / 40 for client in clients]))

    assert largest_share(0.05) > 0.75 > largest_share(0.5) > 0.25 > largest_share(1000) >= 0.1
    assert largest_share(1e308) == 0.1


def test_iid_deals_everyone_the_same_number_and_tests_on_everything() -> None:
    for client in deal(20, kind="iid", examples_per_client=50):
        assert len(held(client)) == 50
        np.testing.assert_array_equal(client.test, np.arange(len(TEST)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_data_in_any_order_of_asking(kind: Any) -> None:
    reference = deal(12, 3, kind=kind)
    partition = make(TRAIN, TEST, 12, 3, kind=kind)
    for client in reversed(range(12)):
        assert same(partition.client(client), reference[client])
    assert not any(same(one, other) for one, other in zip(deal(12, 4, kind=kind), reference, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_more_clients_leave_the_others_data_alone(kind: Any) -> None:
    fewer, more = deal(10, kind=kind), deal(60, kind=kind)
    assert all(same(one, other) for one, other in zip(fewer, more, strict=False))


def test_forty_clients_with_two_classes_of_digits() -> None:
    from sklearn.datasets import load_digits

    labels = load_digits().target
    rest, test = stratified_split(labels, 0.25, generator(0, "split"))
    clients = deal(40, train=labels[rest], test=labels[test], examples_per_class=20)
    assert all(len(held(client)) == 40 and len(client.validation) == 8 for client in clients)


@pytest.mark.parametrize("kind", ["n-class", "dirichlet", "iid", "feature-skew"])
def test_four_hundred_clients_of_sixty_thousand_examples_take_under_two_seconds(kind: Any) -> None:
    train, test = labels_of(6000), labels_of(1000)
    start = time.process_time()
    clients = deal(400, train=train, test=test, kind=kind, classes_per_client=2, examples_per_class=20)
    assert time.process_time() - start < 2
    assert len(np.unique(np.concatenate([held(client) for client in clients]))) == 400 * 40


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"classes_per_client": 11}, r"partition.classes_per_client = 11: the data has 10 classes"),
        (
            {"examples_per_class": 101},
            r"client 0 needs 101 training examples of class \d: the data has 100",
        ),
        ({"examples_per_class": 2, "balance": 0.2}, r"partition.balance = 0.2 of examples_per_class = 2"),
        ({"examples_per_class": 1}, r"client 0 holds no validation examples; it was dealt 2 .* of 2 classes"),
        (
            {"kind": "iid", "examples_per_client": 1001},
            r"examples_per_client = 1001: there are 1000 training",
        ),
        (
            {"kind": "dirichlet", "examples_per_client": 900, "alpha": 0.01},
            r"client 0 needs \d+ training examples of class \d: the data has 100",
        ),
    ],
)
def test_what_the_data_cannot_give_is_a_clear_error(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        deal(**keys)


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_without_test_examples_is_named(kind: Any) -> None:
    with pytest.raises(TaskError, match="client 0 holds no test examples"):
        deal(test=np.empty(0, dtype=int), kind=kind)


@pytest.mark.parametrize("client", [-1, 20])
def test_an_unknown_client_is_refused(client: int) -> None:
    partition = Partition(TRAIN, TEST, PartitionSettings(), 20, 0)
    with pytest.raises(ValueError, match=f"client = {client}: expected 0 to 19"):
        partition.client(client)


@given(
    labels=st.lists(st.integers(0, 4), max_size=60),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 100),
)
def test_a_stratified_split_is_exact_in_every_class(labels: list[int], share: float, seed: int) -> None:
    array = np.array(labels, dtype=int)
    first, second = stratified_split(array, share, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(len(labels)))
    for label in set(labels):
        count, drawn = labels.count(label), int(np.sum(array[second] == label))
        assert drawn == (0 if count == 1 else min(max(1, round(share * count)), count - 1))


# ---- natural


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(4, 20), min_size=1, max_size=12),
    seed=st.integers(0, 100),
    data=st.data(),
)
def test_a_natural_client_is_one_owner_with_all_that_it_owns(sizes: list[int], seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat(10 * np.arange(len(sizes)) - 5, sizes))
    labels = rng.permutation(np.arange(len(owners)) % 2)
    clients = data.draw(st.integers(1, len(sizes)))
    partition = Partition(labels, labels, PartitionSettings(kind="natural"), clients, seed, (owners, owners))
    seen = set()
    for client in map(partition.client, range(clients)):
        (owner,) = set(owners[held(client)])
        np.testing.assert_array_equal(np.sort(held(client)), np.flatnonzero(owners == owner))
        np.testing.assert_array_equal(client.test, np.flatnonzero(owners == owner))
        seen.add(owner)
    assert len(seen) == clients


def test_seeds_choose_other_owners() -> None:
    assert len({tuple(owners_of(TRAIN)[held(deal(1, seed, kind="natural")[0])][:1]) for seed in range(20)}) > 5


def test_natural_needs_owners_and_enough_of_them() -> None:
    with pytest.raises(TaskError, match=r"partition.kind = 'natural': this data does not say who owns which example"):
        Partition(TRAIN, TEST, PartitionSettings(kind="natural"), 2, 0)
    with pytest.raises(TaskError, match=r"clients = 61: partition.kind = 'natural' has one for each of the 60 owners"):
        deal(61, kind="natural")
    with pytest.raises(ValueError, match=r"owners of the test data: shape \(249,\), expected \(250,\)"):
        Partition(TRAIN, TEST, PartitionSettings(kind="natural"), 2, 0, (owners_of(TRAIN), owners_of(TEST[1:])))


# ---- feature skew


@given(rotations=st.integers(1, 360), clients=st.integers(1, 50))
def test_angles_go_round_the_circle(rotations: int, clients: int) -> None:
    partition = make(TRAIN, TEST, clients, 0, kind="feature-skew", rotations=rotations)
    for client in range(clients):
        angle = partition.angle(client)
        assert 0 <= angle < 360
        assert angle * rotations == pytest.approx(360 * (client % rotations))
    angles = {partition.angle(client) for client in range(clients)}
    assert len(angles) == min(rotations, clients)


def test_only_feature_skew_turns_anything() -> None:
    assert make(TRAIN, TEST, 4, 0, kind="iid").angle(1) == 0


def test_feature_skew_deals_as_iid_does() -> None:
    assert all(map(same, deal(kind="iid"), deal(kind="feature-skew")))


def dealt_at_once(items: np.ndarray, counts: list[int], seed: int) -> list[np.ndarray]:
    """What is dealt, written down from first to last: the rule that `Decks` follows without keeping it."""
    rng = np.random.default_rng(seed)
    left, dealt = rng.permutation(items), []
    for count in counts:
        drawn, left = left[:count], left[count:]
        if len(drawn) < count:
            again = rng.permutation(items)
            repeated = np.isin(again, drawn)
            deck = np.concatenate([again[~repeated], again[repeated]])
            missing = count - len(drawn)
            drawn, left = np.concatenate([drawn, deck[:missing]]), deck[missing:]
        dealt.append(drawn)
    return dealt


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 60), seed=st.integers(0, 2**31), data=st.data())
def test_what_is_dealt_is_the_same_for_who_asks_for_one_client_alone(size: int, seed: int, data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, size), min_size=1, max_size=200))
    items, clients = np.arange(size) * 3, np.cumsum(np.ones(len(counts), dtype=int)) * 2
    expected = dealt_at_once(items, counts, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decks, "_SPACING", 3 * size)
        pool = Decks(items, np.random.default_rng(seed), clients, np.array(counts))
        for number in data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=20)):
            np.testing.assert_array_equal(pool.of(int(clients[number])), expected[number])
        np.testing.assert_array_equal(pool.all(), np.concatenate(expected))
    assert len(pool.of(3)) == 0, "who drew nothing holds nothing"


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 20), classes=st.integers(1, 200), most=st.integers(0, 2000), seed=st.integers(0, 2**32))
def test_rows_are_apportioned_as_each_alone(rows: int, classes: int, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, totals = rng.dirichlet(np.full(classes, 0.1), rows), rng.integers(0, most, rows, endpoint=True)
    together = apportion(weights, totals[:, np.newaxis])
    for row, weight, total in zip(together, weights, totals.tolist(), strict=True):
        assert row.tolist() == apportion(weight, total).tolist()
        assert row.sum() == total
        assert (np.abs(row - weight * total / weight.sum()) < 1).all()


def test_of_clients_that_ask_for_too_much_the_first_is_named() -> None:
    with pytest.raises(TaskError, match=r"^client 149 needs 105 training examples of class 7: the data has 100$"):
        make(TRAIN, TEST, 5000, 0, kind="dirichlet", alpha=1, examples_per_client=200)
