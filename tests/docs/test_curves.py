"""Pictures of records on a strategy's page."""

import json
from pathlib import Path

from tools.site.curves import curves


def record(folder: Path, name: str, strategy: str, sent: list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scores = [0.1 * (place + 1) for place in range(len(sent))]
    rounds = {"round": [*range(1, len(sent) + 1)], "sent": sent, "personalised": scores, "downloaded": scores}
    content = {"experiment": {"strategy": {"name": strategy}}, "rounds": rounds}
    (folder / name).write_text(json.dumps(content))


def test_a_part_has_a_picture_with_a_line_for_each_curve_of_each_seed(tmp_path: Path) -> None:
    for seed in (0, 1):
        record(tmp_path / "fashion", f"ssfl-half-seed{seed}.json", "ssfl", [1_000_000, 2_000_000, 4_000_000 + seed])
    record(tmp_path / "digits", "ssfl-seed0.json", "ssfl", [5])
    record(tmp_path / "digits", "fedavg-seed0.json", "fedavg", [5])
    digits, fashion = curves("ssfl", tmp_path)
    assert digits.count("<polyline") == 2
    assert fashion.count("<polyline") == 4
    assert "fashion, ssfl-half, 2 seeds" in fashion
    assert "4.0 MB" in fashion
    assert ">0.3<" in fashion


def test_without_records_there_is_none(tmp_path: Path) -> None:
    assert list(curves("ssfl", tmp_path / "nowhere")) == []


def test_records_of_a_setting_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    record(tmp_path / "fashion" / "dirichlet-0.3" / "density-0.1", "ssfl-seed0.json", "ssfl", [5])
    (picture,) = curves("ssfl", tmp_path)
    assert "fashion/dirichlet-0.3/density-0.1, ssfl, 1 seed:" in picture
