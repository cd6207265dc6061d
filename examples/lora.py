"""LoRA by peft on the model of reviews.py, which stays as it is: lotteryfl run examples/lora.toml

Rounds carry adapters and the head, and these are pruned.
"""

from pathlib import Path

from peft import LoraConfig, get_peft_model
from reviews import client, collate, objective
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

__all__ = ["client", "collate", "model", "objective"]


def model() -> nn.Module:
    """Return the model with adapters; weights of a folder come by `from_pretrained` in the place of `from_config`."""
    config = AutoConfig.from_pretrained(Path(__file__).with_name("tiny-bert"))
    adapters = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules="all-linear")
    adapted: nn.Module = get_peft_model(AutoModelForSequenceClassification.from_config(config), adapters)
    return adapted
