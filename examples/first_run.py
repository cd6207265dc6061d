"""Run an experiment, watch its rounds, plot its accuracy, and load a client's ticket: python examples/first_run.py"""

import sys
from pathlib import Path

from matplotlib import pyplot as plt

import lotteryfl

plt.switch_backend("Agg")
out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/first")
overrides = sys.argv[2:] or ["rounds=5"]

experiment = lotteryfl.load_experiment(Path(__file__).with_name("digits.toml"), overrides)
with lotteryfl.run(experiment, out, workers=2, show=lambda status: print(status.round, end=" ")) as view:
    rounds = view.rounds()
    rounds.plot(x="round", y=["accuracy_downloaded", "accuracy_personalised"])
    plt.savefig(out.with_suffix(".png"))
    model = lotteryfl.create_model(experiment.task.name, experiment.task.model)
    model.load_state_dict(view.ticket(client=0))
    lotteryfl.apply_masks(model, view.masks(client=0))

print(f"\nclient 0 keeps {lotteryfl.density(model):.0%} of its weights")
