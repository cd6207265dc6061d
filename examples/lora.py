"""LoRA by peft on a transformer that stays as it is: rounds carry adapters and the head, and these are pruned."""

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from lotteryfl import Experiment, objectives

objective = objectives.HuggingFace()
WORDS, LENGTH, SIZES = 200, 12, [180, 40, 80]


def model() -> nn.Module:
    """Return the adapted model; a pretrained one is `AutoModelForSequenceClassification.from_pretrained(FOLDER)`."""
    config = AutoConfig.for_model(
        "bert",
        vocab_size=WORDS,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
    )
    adapters = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules="all-linear")
    adapted: nn.Module = get_peft_model(AutoModelForSequenceClassification.from_config(config), adapters)
    return adapted


def client(k: int, experiment: Experiment) -> list[dict[str, Tensor]]:
    """Return client k's sentences: those of praise have more even words than odd ones. Each site knows half of all."""
    random = torch.Generator().manual_seed(1000 * experiment.seed + k)
    labels = torch.randint(2, (300,), generator=random)
    is_odd = torch.rand(300, LENGTH, generator=random) < 0.8 - 0.6 * labels[:, None]
    own = torch.randperm(WORDS // 2, generator=random)[: WORDS // 4] * 2
    words = own[torch.randint(len(own), (300, LENGTH), generator=random)] + is_odd
    parts = zip(torch.split(words, SIZES), torch.split(labels, SIZES), strict=True)
    return [{"input_ids": part, "labels": truth} for part, truth in parts]
