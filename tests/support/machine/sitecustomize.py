"""What a process begins with that has this folder in PYTHONPATH: another machine, as far as its environment says so.

CARDS: so many, as `torch.accelerator` would tell of them. They compute on the CPU, which torch knows by numbers as
well; each has 8 GiB, all of them free. FREE: so many bytes of the first one are. CORES: so many of the cores that there
are may be used.
"""

import os

if "CARDS" in os.environ:
    import torch

    cards, total = int(os.environ["CARDS"]), 8 << 30
    first = int(os.environ.get("FREE", total))
    for name, answer in {
        "current_accelerator": torch.device("cpu"),
        "device_count": cards,
        "get_memory_info": lambda device: (total if device.index else first, total),
        "memory_reserved": 0,
        "memory_allocated": 0,
        "max_memory_allocated": 0,
        "max_memory_reserved": 0,
        "set_device_index": None,
        "reset_peak_memory_stats": None,
        "synchronize": None,
        "empty_cache": None,
    }.items():
        setattr(
            torch.accelerator, name, answer if callable(answer) else lambda *_device, answer=answer, **_options: answer
        )

if "CORES" in os.environ:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(os.environ["CORES"])])
