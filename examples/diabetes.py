"""Write scikit-learn's diabetes patients as a folder for each of 6 clinics: python examples/diabetes.py runs/clinics

Then: lotteryfl run examples/diabetes.toml
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

data = load_diabetes(as_frame=True).frame  # the last column is what is predicted: how far the disease is a year later
table = scale(data)
random = np.random.default_rng(0)
by_age = np.argsort(table[:, 0] + random.normal(0, 1, len(table)))  # a clinic's patients are of an age, more or less
for clinic, patients in enumerate(np.array_split(by_age, 6)):
    folder = Path(sys.argv[1], f"clinic-{clinic}")
    folder.mkdir(parents=True, exist_ok=True)
    header = ",".join(data.columns)
    np.savetxt(folder / "patients.csv", table[patients], "%.4f", delimiter=",", header=header, comments="")
