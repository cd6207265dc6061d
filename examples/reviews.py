"""Fine-tune a text classifier of Hugging Face: lotteryfl run examples/reviews.toml

Words are numbered by a checksum here; with a real model by its tokenizer, AutoTokenizer.from_pretrained(FOLDER).
"""

import random
import zlib
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from lotteryfl import Experiment, objectives

objective = objectives.HuggingFace()
GOOD = "bright calm cheap clever fast firm fresh light lovely neat quiet sharp smooth solid sturdy warm".split()
BAD = "blunt brittle broken clumsy dear dim dull flimsy harsh heavy late loud rough slow stale weak".split()
OTHER = "a and but for in is it kettle lamp mine my of phone the they this to was with you".split()


def client(k: int, experiment: Experiment) -> list[list[dict[str, Any]]]:
    """Return what site k's buyers wrote: they know half of the words, and seldom say the opposite of what they mean."""
    dice = random.Random(f"{experiment.seed} {k}")
    sides = [dice.sample(BAD, 8), dice.sample(GOOD, 8)]
    return [[review(sides, dice.randrange(2), dice) for _ in range(size)] for size in (80, 20, 60)]


def review(sides: list[list[str]], label: int, dice: random.Random) -> dict[str, Any]:
    lists = dice.choices([sides[label], sides[1 - label], OTHER], weights=[5, 1, 6], k=dice.randint(6, 24))
    return {"input_ids": [1 + zlib.crc32(dice.choice(words).encode()) % 511 for words in lists], "labels": label}


def collate(reviews: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return a batch of reviews of unequal length: 0 where the shorter ones have ended."""
    ids = pad_sequence([torch.tensor(review["input_ids"]) for review in reviews], batch_first=True)
    labels = torch.tensor([review["labels"] for review in reviews])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}
