"""docs/training.md: every key of the section is in it, and its example is an experiment."""

import re
import tomllib

import pytest

from lotteryfl.common.experiment.experiment import validate
from lotteryfl.common.training.augmentation import AUGMENTATIONS
from lotteryfl.common.training.recipe import TrainingSettings
from lotteryfl.common.training.schedules import Schedule
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", [*TrainingSettings.model_fields, *Schedule.model_fields, *AUGMENTATIONS])
def test_every_key_is_explained(key: str) -> None:
    assert f"`{key}`" in TEXT


def test_the_example_is_an_experiment() -> None:
    example = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)[0]
    assert validate(tomllib.loads(example), "the example").training.depends_on_rounds
