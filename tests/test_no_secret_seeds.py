"""No secret passes through a generator's seed: torch's on the CPU keeps 32 bits of it, and who has those has all."""

import ast
from collections.abc import Iterator

from tests.support.paths import ROOT

SECRET = {"urandom", "secrets", "gaussian", "uniform"}
"""Who has one of these names has secrets."""

SEEDED = {
    *("manual_seed", "manual_seed_all", "initial_seed", "set_rng_state", "set_state", "fork_rng"),
    *("Generator", "PCG64", "default_rng", "RandomState", "Random", "generator"),
    *("rand", "randn", "randint", "normal", "normal_", "uniform_", "bernoulli", "bernoulli_"),
}
"""What comes out of a seed, or goes into one."""

SEEDS = {
    "common/seeding.py": {"seed"},  # of `seeded`, see below
    "client/local/work.py": {"derive_seed(assignment.seed, 'local')"},
    "common/training/augmentation.py": {"derive_seed(seed, 'augment')", "derive_seed(seed, 'own augment')"},
    "common/training/loop.py": {"derive_seed(recipe.seed, 'shuffle')"},
    "common/training/loaded.py": {"int(torch.randint(2 ** 62, ()))"},  # of torch's global one, see below
    "common/training/stacked/batches.py": {"derive_seed(recipe.seed, 'shuffle')"},
    "common/training/stacked/course.py": {"derive_seed(self.recipe.seed, 'dropout')"},
    "common/tasks/sampling.py": {"seed"},  # derived from the assignment's
    "server/strategies/support/sharedmask.py": {"seed"},  # of all clients' mask or of one's, derived from the run's
}
"""All that generators of torch's are seeded with: derived from a run's seed, which every worker is told."""

SEEDED_FOR_A_WHILE = {
    "client/local/files.py": {"0"},  # there is no run yet
    "client/work/assignment.py": {"derive_seed(assignment.seed, 'unasked')", "0"},  # 0: nothing of it is left
    "client/work/stack.py": {
        "derive_seed(seeds[row], 'unasked', *([stretch] if stretch else ()))",
        "together",  # derived from the run's seed, round and stack
    },
    "client/work/labelledprobe.py": {"0"},  # nothing of it is left
    "client/work/objectiveprobe.py": {"0"},  # likewise
    "common/tasks/custom.py": {
        "derive_seed(experiment.seed, 'objective')",
        "model_seed(self._experiment.seed)",
        *("seed", "self.seed"),  # derived from the experiment's
    },
    "common/tasks/namedmodel.py": {"derive_seed(experiment.seed, 'task')", "model_seed(experiment.seed)"},
    "common/training/loop.py": {"derive_seed(recipe.seed, 'dropout')"},
    "common/training/stacked/course.py": {"derive_seed(self.recipe.seed, 'unasked', len(self._sizes))"},
    "common/training/stacked/train.py": {"derive_seed(self._seed, 'step', step)"},
    "server/models/built.py": {"model_seed(run.experiment.seed)", "0"},  # 0: numbers that the export is tried with
    "server/rounds/setup.py": {"model_seed(experiment.seed)"},
    "server/strategies/__init__.py": {"0"},  # there is no run yet
    "server/strategies/support/drawing.py": {'derive_seed(experiment.seed, f"strategy\'s {purpose}", *parts)'},
}
"""All that the global generators are seeded with, likewise."""


def trees() -> Iterator[tuple[str, ast.AST]]:
    for folder in ("client", "common", "server", "lotteryfl"):
        for path in (ROOT / folder).rglob("*.py"):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def names(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute | ast.alias):
            found.add(node.attr if isinstance(node, ast.Attribute) else node.name)
    return found


def arguments(tree: ast.AST, function: str) -> set[str]:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    of_it = (call for call in calls if getattr(call.func, "attr", getattr(call.func, "id", "")) == function)
    return {ast.unparse(argument) for call in of_it for argument in call.args[:1]}


def test_who_draws_secrets_has_no_generator() -> None:
    found = {path: used for path, tree in trees() if SECRET & (used := names(tree))}
    assert {"common/noise.py", "common/training/dpsgd.py", "client/work/updateprivacy.py"} <= found.keys()
    assert {path: used & SEEDED for path, used in found.items() if used & SEEDED} == {}


def test_generators_are_seeded_with_what_every_worker_is_told() -> None:
    found = {path: used for path, tree in trees() if (used := arguments(tree, "manual_seed"))}
    assert found == SEEDS
    for_a_while = {path: used for path, tree in trees() if (used := arguments(tree, "seeded"))}
    assert for_a_while == SEEDED_FOR_A_WHILE
