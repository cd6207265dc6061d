"""What a report says of runs, against the figures in their directories; and the page that says it."""

import base64
import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from safetensors.torch import save_file

from lotteryfl.commands.report import report
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.packedmasks import pack
from lotteryfl.server.results.picture import draw_holdings
from lotteryfl.server.results.reporting.clientpictures import draw_clients, draw_layers
from lotteryfl.server.results.reporting.curves import draw_accuracy, draw_traffic
from lotteryfl.server.results.reporting.data import RunData, read_run
from lotteryfl.server.results.reporting.figures import Targets, figures, table, target_accuracies
from lotteryfl.server.results.reporting.groups import group_runs
from lotteryfl.server.results.reporting.overlap import class_order, held_classes, jaccard, measure_overlap
from lotteryfl.server.results.reporting.style import save
from lotteryfl.server.results.reporting.timeline import draw_timeline
from lotteryfl.server.results.reporting.write import write_report
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.store.findruns import find_runs
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.summaries import client_summaries
from tests.support.bench import Bench, simulated, tiny_experiment, tiny_mlp

Drive = Callable[..., Bench]


def made(path: Path, **changes: Any) -> RunData:
    simulated(path, tiny_experiment(**changes)).close()
    return read_run(path)


# -- what is read


def test_a_run_is_read_as_its_directory_has_it(tmp_path: Path) -> None:
    run = made(tmp_path / "run", rounds=3)
    with RunDirectory(tmp_path / "run", read_only=True) as directory:
        summary = summarise(directory)
        database = directory.database
        rounds = [client_summaries(database, number) for number in range(1, 5)]
        traffic = list(database.select("SELECT sum(bytes_down), sum(bytes_up) FROM assignments GROUP BY round"))
        kept = [
            {n: np.unpackbits(m).sum() for n, m in directory.load_masks(c.mask).items()} for c in database.clients()
        ]
    assert run.is_finished
    assert run.is_final
    assert run.rounds.number.tolist() == [1, 2, 3, 4]
    for name in ("downloaded", "personalised"):
        means = [np.mean([getattr(client, f"score_{name}") for client in clients]) for clients in rounds]
        assert getattr(run.rounds, name) == pytest.approx(means)
    assert list(zip(run.rounds.down.tolist(), run.rounds.up.tolist(), strict=True)) == traffic
    assert run.sent[-1] == pytest.approx((summary["bytes"]["down"] + summary["bytes"]["up"]) / 1e6)
    assert run.worst_decile() == summary["accuracy"]["personalised_worst_decile"]
    assert np.isnan(run.globally())
    assert run.layers == ("0.weight", "2.weight")
    assert run.layer_densities == pytest.approx(np.array([[k["0.weight"] / 72, k["2.weight"] / 36] for k in kept]))
    assert len(run.leases) == 3 * 3 + 4
    assert {lease.worker for lease in run.leases} == {"simulate"}
    assert all(0 <= lease.begin <= lease.end for lease in run.leases)


def test_bytes_sent_to_every_worker_count_from_the_start(tmp_path: Path) -> None:
    before = made(tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as database, database:
        database.execute("INSERT OR REPLACE INTO run VALUES ('shared_bytes_down', '5000000')")
    after = read_run(tmp_path / "run")
    assert after.sent == pytest.approx(before.sent + 5)


def test_the_picture_of_traffic_counts_all_that_was_sent(tmp_path: Path) -> None:
    """θ_0 too, as the table and the summary do: it came with the first round."""
    path = tmp_path / "run"
    made(path)
    with closing(sqlite3.connect(path / "run.db")) as database, database:
        database.execute("INSERT OR REPLACE INTO run VALUES ('shared_bytes_down', '5000000')")
    run = read_run(path)
    (group,) = group_runs([run])
    down, up = draw_traffic([group]).axes
    bars = [[bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)] for axes in (down, up)]
    with RunDirectory(path, read_only=True) as directory:
        sent = summarise(directory)["bytes"]
    assert np.dot(bars[0], run.rounds.clients) == pytest.approx(sent["down"] / 1e6)
    assert np.dot(bars[1], run.rounds.clients) == pytest.approx(sent["up"] / 1e6)
    assert bars[0][0] > 5 / 3


def test_the_picture_of_clients_counts_whole_clients_and_says_the_tables_figures(tmp_path: Path) -> None:
    """Of seeds with different clients, a tenth of all of them together is another figure."""
    runs = [made(tmp_path / f"x-seed{seed}", seed=seed) for seed in (0, 1, 2)]
    (group,) = group_runs(runs)
    figure = draw_clients([group])
    (axes,) = figure.axes
    figure.draw_without_rendering()
    assert all(tick == int(tick) for tick in axes.get_yticks())
    row = figures(group, Targets(0.5, 0.5))
    assert axes.get_title().endswith(f": mean {row.personalised_last.mean:.3f}, worst 10 % {row.worst_decile.mean:.3f}")
    drawn = {str(line.get_label()): float(np.asarray(line.get_xdata())[0]) for line in axes.lines}
    assert drawn["personalised, worst 10 %"] == row.worst_decile.mean
    assert drawn["personalised, mean"] == row.personalised_last.mean
    together = np.sort([client.score_personalised for run in runs for client in run.clients])
    assert together[:2].mean() != row.worst_decile.mean


def test_megabytes_are_counted_to_the_first_round_that_was_good_enough(tmp_path: Path) -> None:
    run = made(tmp_path / "run", rounds=4)
    accuracies = run.rounds.personalised.tolist()
    best = max(accuracies)
    assert run.megabytes_to(best, run.rounds.personalised) == run.sent[accuracies.index(best)]
    assert run.megabytes_to(0, run.rounds.personalised) == run.sent[0]
    assert run.megabytes_to(best + 1e-6, run.rounds.personalised) == float("inf")


def test_an_unfinished_run_is_read_and_one_without_a_round_is_named(drive: Drive) -> None:
    bench = drive(tiny_experiment(rounds=3))
    with pytest.raises(LotteryFLError, match="no round is committed yet"):
        read_run(bench.path)
    worker = bench.register()
    bench.do_all(worker)
    bench.commit()
    bench.do_all(worker)  # the open round is not shown
    run = read_run(bench.path)
    assert (run.is_finished, run.is_final, run.rounds.number.tolist()) == (False, False, [1])
    assert len(run.clients) == 3
    (group,) = group_runs([run])
    assert "lotteryfl (unfinished)" in table([figures(group, Targets(0.5, 0.5))], Targets(0.5, 0.5), "simple")


def test_runs_are_found_in_the_folder_of_a_comparison(tmp_path: Path) -> None:
    for name in ("b", "a"):
        made(tmp_path / "all" / name, rounds=1)
    (tmp_path / "all" / "notes").mkdir()
    a, b = tmp_path / "all" / "a", tmp_path / "all" / "b"
    assert find_runs([tmp_path / "all"]) == [a, b]
    assert find_runs([b, tmp_path / "all"]) == [b, a]
    with pytest.raises(LotteryFLError, match=r"notes: is no run directory"):
        find_runs([a, tmp_path / "all" / "notes"])


# -- what belongs together


def test_runs_that_differ_in_their_seed_alone_are_one_group(tmp_path: Path) -> None:
    runs = [made(tmp_path / f"x-seed{seed}", rounds=1 + seed, seed=seed) for seed in (1,)]
    runs += [made(tmp_path / f"y-seed{seed}", rounds=1, seed=seed) for seed in (5, 2)]
    runs += [made(tmp_path / "z-seed2", rounds=1, seed=2, strategy={"name": "fedavg"})]
    groups = group_runs(runs)
    assert [(group.label, [run.experiment.seed for run in group.runs]) for group in groups] == [
        ("x", [1]),
        ("y", [2, 5]),
        ("fedavg", [2]),
    ]
    mean, std = groups[1].over_runs(lambda run: run.rounds.downloaded)
    two = np.stack([run.rounds.downloaded for run in runs[1:3]])
    assert mean == pytest.approx(two.mean(axis=0))
    assert std == pytest.approx(two.std(axis=0))
    assert groups[1].title == "y (2 seeds)"


def test_a_target_that_not_every_seed_reaches_has_no_price(tmp_path: Path) -> None:
    runs = [made(tmp_path / f"run-seed{seed}", seed=seed, rounds=3) for seed in (0, 1)]
    (group,) = group_runs(runs)
    personalised = [float(run.rounds.personalised.max()) for run in runs]
    downloaded = [float(run.rounds.downloaded.max()) for run in runs]
    assert target_accuracies([group]) == pytest.approx((0.9 * np.mean(personalised), 0.9 * np.mean(downloaded)))
    beyond = figures(group, Targets(max(personalised) + 0.01, max(downloaded) + 0.01))
    assert (beyond.megabytes_to_personalised, beyond.megabytes_to_downloaded) == (None, None)
    reached = figures(group, Targets(min(personalised), min(downloaded)))
    sent = {run.path: dict(zip(run.rounds.number, run.sent, strict=True)) for run in runs}
    for spread, least, accuracies in (
        (reached.megabytes_to_personalised, min(personalised), [run.rounds.personalised for run in runs]),
        (reached.megabytes_to_downloaded, min(downloaded), [run.rounds.downloaded for run in runs]),
    ):
        first = [1 + [bool(each >= least) for each in by_round].index(True) for by_round in accuracies]
        assert spread is not None
        assert spread.mean == pytest.approx(np.mean([sent[run.path][n] for run, n in zip(runs, first, strict=True)]))
    assert table([beyond], Targets(1.5, 1.5), "simple").count("–") == 2


# -- overlap


@given(st.integers(1, 300), st.integers(2, 6), st.integers(0, 2**32))
def test_the_overlap_is_intersection_over_union(size: int, clients: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kept = {name: rng.random((clients, numel)) < rng.random((clients, 1)) for name, numel in (("a", size), ("b", 13))}
    import torch

    masks = [{name: pack(torch.from_numpy(rows[k])) for name, rows in kept.items()} for k in range(clients)]
    whole = np.concatenate([kept["a"], kept["b"]], axis=1)
    expected = [[(x & y).sum() / max((x | y).sum(), 1) for y in whole] for x in whole]
    assert jaccard(masks) == pytest.approx(np.array(expected))


def test_masks_longer_than_a_block_are_compared_whole() -> None:
    size = (1 << 16) + 24
    first, second = np.zeros(size, dtype=np.uint8), np.zeros(size, dtype=np.uint8)
    first[[0, -1]] = 255
    second[-1] = 15
    assert jaccard([{"w": first}, {"w": second}])[0, 1] == 4 / 16


def test_clients_come_in_the_order_of_their_classes() -> None:
    counts = np.array([[0, 5, 5], [9, 0, 1], [0, 2, 8], [5, 5, 0], [0, 5, 5]])
    assert [held_classes(row) for row in counts] == [(1, 2), (0, 2), (2, 1), (0, 1), (1, 2)]
    assert class_order(counts) == [3, 1, 0, 4, 2]


def test_dense_clients_are_left_out_and_of_very_many_an_even_choice_is_shown() -> None:
    mask = {"w": np.array([3], dtype=np.uint8)}
    found = measure_overlap([mask, {}, mask], [2, 1, 0])
    assert found is not None
    assert found.clients.tolist() == [2, 0]
    assert measure_overlap([mask, {}], [0, 1]) is None
    many = measure_overlap([mask] * 1000, range(1000))
    assert many is not None
    assert (len(many.clients), many.clients[0], many.clients[-1]) == (200, 0, 999)


# -- pictures and page


class Page(HTMLParser):
    """What a page is made of: tags, the pictures in it, and all that it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[bytes] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        for key in ("src", "href", "srcset", "data", "action"):
            value = values.get(key) or ""
            if value.startswith("data:image/png;base64,"):
                assert values["alt"]
                self.images.append(base64.b64decode(value.partition(",")[2], validate=True))
            elif value:
                self.loads.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_all_pictures_and_loads_nothing(tmp_path: Path) -> None:
    runs = [made(tmp_path / name, rounds=3, strategy={"name": name}) for name in ("fedavg", "lotteryfl")]
    path = write_report(group_runs(runs), tmp_path / "report", [])
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    files = {file.name: file.read_bytes() for file in path.parent.glob("*.png")}
    assert set(files) == {
        *("accuracy.png", "clients.png", "layers.png", "traffic.png"),
        *("overlap-2.png", "holdings.png"),
    }
    assert sorted(page.images) == sorted(files.values())
    assert page.loads == []
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert f"{runs[1].rounds.personalised[-1]:.3f}" in page.text
    assert all(data.startswith(b"\x89PNG") and int.from_bytes(data[16:20], "big") == 990 for data in files.values())


def test_of_one_mask_for_all_no_overlap_is_drawn(tmp_path: Path) -> None:
    run = made(tmp_path / "run", strategy={"name": "ssfl", "target_density": 0.5})
    write_report(group_runs([run]), tmp_path / "report", [])
    assert {"layers.png"} <= {file.name for file in (tmp_path / "report").glob("*.png")}
    assert not (tmp_path / "report" / "overlap.png").exists()


def test_what_runs_are_called_is_text_and_nothing_else(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>"[:8], 'b"><img src=x onerror=alert(1)>']
    runs = [made(tmp_path / name, rounds=1 + index) for index, name in enumerate(names)]
    path = write_report(group_runs(runs), tmp_path / "report", [])
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.tags.count("img") == len(page.images)
    assert all(name in page.text for name in names)


def test_who_may_work_and_where_data_lay_is_not_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    save_file(tiny_mlp().state_dict(), tmp_path / "secret" / "x.safetensors")
    task = {"data_dir": "/secret/place", "model": "/secret/own.py:make", "initial": f"{tmp_path}/secret/x.safetensors"}
    run = made(tmp_path / "run", access={"workers": {"hospital-7": "0-3"}}, task=task)
    text = write_report(group_runs([run]), tmp_path / "report", []).read_text(encoding="utf-8")
    assert "hospital-7" not in text
    assert "/secret" not in text
    assert "clients_per_round = 3" in Page(text).text


def test_a_task_that_was_not_allowed_is_not_imported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "mine.py"
    file.write_text("raise SystemExit('was imported')")
    run = made(tmp_path / "run", rounds=3, task={"name": str(file)})
    path = write_report(group_runs([run]), tmp_path / "report", [])
    (warning,) = caplog.messages
    assert warning.startswith("holdings.png is not drawn: task 'mine' is not installed here")
    text = Page(path.read_text(encoding="utf-8")).text
    assert "is not installed" not in text
    assert "Which client holds which classes is not known where this page was made." in text
    assert not (tmp_path / "report" / "holdings.png").exists()
    assert (tmp_path / "report" / "overlap.png").exists()


def test_layers_are_drawn_where_anybody_has_a_ticket(tmp_path: Path) -> None:
    dense = made(tmp_path / "dense", strategy={"name": "fedavg"})
    sparse = made(tmp_path / "sparse")
    assert draw_layers(group_runs([dense])) is None
    figure = draw_layers(group_runs([dense, sparse]))
    assert figure is not None
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(sparse.layers)
    (dots,) = [line for line in axes.lines if line.get_label() == "lotteryfl"]
    assert np.asarray(dots.get_xdata()) == pytest.approx(sparse.layer_densities.mean(axis=0))


def test_the_time_line_has_a_row_for_each_worker(drive: Drive) -> None:
    bench = drive(tiny_experiment(rounds=1))
    first, second = bench.register("b"), bench.register("a")
    bench.submit(second, bench.do(bench.take(second)))
    bench.do_all(first)
    bench.commit()
    (axes,) = draw_timeline(read_run(bench.path), "run").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    bars = [len(c.get_paths()) for c in axes.collections]
    assert sum(bars) == 3


def test_what_workers_and_folders_are_called_is_drawn_as_it_is(drive: Drive, tmp_path: Path) -> None:
    """Two $ would begin a formula, and this one is none; matplotlib keeps labels that begin with _ to itself."""
    bench = drive(tiny_experiment(rounds=1, strategy={"name": "fedavg"}))
    bench.do_all(bench.register(r"$\frac{$"))
    bench.commit()
    figure = draw_timeline(read_run(bench.path), r"$a_{$")
    save(figure, tmp_path / "timeline.png")
    texts = {text.get_text(): text for text in figure.findobj(Text)}
    for name in (r"$\frac{$", r"$a_{$: assignments on workers"):
        assert not texts[name].get_parse_math()
    runs = [read_run(bench.path), made(tmp_path / r"_$\frac{$", strategy={"name": "fedavg"})]
    groups = group_runs(runs)
    legend = draw_accuracy(groups).legends[0]
    assert [text.get_text().strip() for text in legend.get_texts()] == [group.label for group in groups]
    assert "_$" in groups[1].label
    write_report(groups, tmp_path / "report", [])
    draw_holdings(np.ones((2, 2), dtype=int), r"$\frac{$", 0, tmp_path / "holdings.png")


# -- the command


def test_the_command_writes_a_report_and_names_what_it_cannot_read(tmp_path: Path) -> None:
    made(tmp_path / "run")
    result = CliRunner().invoke(report, [str(tmp_path / "run"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert result.output == f"{tmp_path / 'out' / 'index.html'} written\n"
    (tmp_path / "file").touch()
    result = CliRunner().invoke(report, [str(tmp_path / "run"), "--out", str(tmp_path / "file")])
    assert isinstance(result.exception, LotteryFLError)
    assert re.search(r"--out .*file: cannot be written", str(result.exception))
    result = CliRunner().invoke(report, [str(tmp_path / "nowhere")])
    assert isinstance(result.exception, LotteryFLError)


def test_without_matplotlib_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(LotteryFLError, match=r"a report needs matplotlib: pip install 'lotteryfl\[report\]'"):
        write_report(group_runs([run]), tmp_path / "out", [])
