"""The values of each trial: the plan's values first, then values that Optuna's sampler suggests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mgap_cli.comparison.plan import TRIAL_SEED
from mgap_cli.config import Between, Search, SearchSpace
from mgap_cli.errors import UsageError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def require_optuna() -> None:
    """Raise UsageError if Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--tune: Optuna is not installed ({error}).", "Run: pip install 'mgap[tune]'"
        ) from error


def suggestion(
    space: SearchSpace, start: Mapping[str, Any], finished: Sequence[tuple[Mapping[str, Any], float]]
) -> dict[str, Any]:
    """Return the values of the trial after the `finished` ones, each with its values and its accuracy.

    start: the values of the first trial. Those of the others depend only on `finished` and the trial's
    number: the next nine are random, then the tree-structured Parzen estimator chooses (Bergstra et al.,
    2011). Trials with the same number draw the same random numbers, so that every method's space is covered
    alike. Raises ImportError if Optuna is not installed.
    """
    if not finished:
        return dict(start)
    import numpy as np
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(search, start[key]) for key, search in space.items()}
    state = np.random.SeedSequence(TRIAL_SEED, spawn_key=(len(finished),)).generate_state(1)
    sampler = optuna.samplers.TPESampler(seed=int(state[0]))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for values, accuracy in finished:
        study.add_trial(optuna.create_trial(params=dict(values), distributions=distributions, value=accuracy))
    return dict(study.ask(distributions).params)


def _distribution(search: Search, now: object) -> BaseDistribution:
    """Return a search as Optuna's distribution; it has whole numbers if the value `now` is one."""
    from optuna import distributions as known

    if not isinstance(search, Between):
        return known.CategoricalDistribution(search.values)
    if type(now) is int:
        return known.IntDistribution(int(search.low), int(search.high), log=search.log)
    return known.FloatDistribution(search.low, search.high, log=search.log)
