"""How sure a score is: cluster bootstrap, paired tests, several comparisons.

Papers: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; Hesterberg,
"What Teachers Should Know About the Bootstrap", 2015, arXiv 1411.5279 (percentiles of
few clusters are too narrow by what Student's t differs from normal); Holm, "A Simple
Sequentially Rejective Multiple Test Procedure", 1979; Miller, "Adding Error Bars to
Evals", 2024, arXiv 2411.00640 (questions on one image are not independent).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, ndtr, ndtri, stdtrit

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """A value, its bootstrap interval and standard error, in the value's unit.

    Attributes:
        value (float): of the whole set.
        low (float): lower percentile.
        high (float): upper percentile.
        standard_error (float): standard deviation of the resampled values.
        p_value (float | None): two-sided, of the value being 0; of a difference.

    Where the units are too few to tell, ``low``, ``high`` and ``standard_error`` are
    nan, and ``p_value`` of a difference is 1.
    """

    value: float
    low: float
    high: float
    standard_error: float
    p_value: float | None = None


#: Largest share of resamples without a value that leaves an interval.
_MOST_UNDEFINED = 0.01


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return ``top / bottom`` in float64, 0 where the bottom is 0."""
    top, bottom = np.broadcast_arrays(
        np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    )
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)


def group_ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return ``top / bottom`` of groups, nan of a group that has nothing in it.

    A resample may lack all images of a small group: it then has no total of groups.
    """
    return np.where(np.asarray(bottom) == 0, np.nan, ratio(top, bottom))


def resampled_sums(
    units: np.ndarray, clusters: np.ndarray, draws: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Resample whole clusters with replacement and sum their units.

    Args:
        units (np.ndarray): (U, K) additive statistics.
        clusters (np.ndarray): (U,) int, cluster of each unit.
        draws (int): number of resamples.
        seed (int): of the generator.

    Returns:
        np.ndarray: (draws, K) float64.
    """
    units = np.asarray(units, dtype=np.float64)
    if not len(units):
        return np.zeros((draws, units.shape[1]))
    names, codes = np.unique(clusters, return_inverse=True)
    count = len(names)
    sums = np.stack([np.bincount(codes, column, count) for column in units.T], axis=1)
    generator = np.random.default_rng(seed)
    # How often each cluster is drawn, times its sums: no resample is laid out.
    times = (
        np.bincount(generator.integers(count, size=count), minlength=count)
        for _ in range(draws)
    )
    return np.stack([drawn @ sums for drawn in times])


def bootstrap_interval(
    units: np.ndarray,
    clusters: np.ndarray,
    statistic: Statistic,
    *,
    draws: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the percentile interval of a statistic of summed units.

    Args:
        units (np.ndarray): (U, K) additive statistics.
        clusters (np.ndarray): (U,) int, what is resampled as a whole.
        statistic (Callable): sums (..., K) to values (...), nan where a resample has
            none; those are left out, and beyond a hundredth there is no interval.
        draws (int): number of resamples.
        seed (int): of the generator; equal seeds give equal intervals.
        level (float): coverage, 0-1.
    """
    values = statistic(resampled_sums(units, clusters, draws, seed))
    value = float(statistic(units.sum(axis=0)))
    return _interval(value, values, clusters, level)


def paired_interval(
    first: np.ndarray,
    second: np.ndarray,
    clusters: np.ndarray,
    statistic: Statistic,
    *,
    draws: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the interval of ``second - first``, the same clusters drawn for both.

    Args:
        first (np.ndarray): (U, K) units of one run.
        second (np.ndarray): (U, K) units of another run over the same items.
        clusters (np.ndarray): (U,) int, of both.
        statistic (Callable): sums (..., K) to values (...).
        draws (int): number of resamples.
        seed (int): of the generator.
        level (float): coverage, 0-1.

    Returns:
        Interval: with the two-sided p-value of no difference.

    Raises:
        ValueError: when the runs have other numbers of units.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"the runs have units of shapes {first.shape} and {second.shape}; compare "
            "runs over the same items under the same rule."
        )
    width = first.shape[1]

    def difference(sums: np.ndarray) -> np.ndarray:
        return statistic(sums[..., width:]) - statistic(sums[..., :width])

    both = np.concatenate([first, second], axis=1)
    values = difference(resampled_sums(both, clusters, draws, seed))
    tail = min((values <= 0).sum(), (values >= 0).sum())
    p_value = min(1.0, 2 * (tail + 1) / (np.isfinite(values).sum() + 1))
    value = float(difference(both.sum(axis=0)))
    return _interval(value, values, clusters, level, p_value)


def _interval(
    value: float,
    values: np.ndarray,
    clusters: np.ndarray,
    level: float,
    p_value: float | None = None,
) -> Interval:
    """Return percentiles, widened as Student's t is for this many clusters."""
    count, kept = len(np.unique(clusters)), values[np.isfinite(values)]
    if count < 2 or len(kept) < (1 - _MOST_UNDEFINED) * len(values):
        nothing = float("nan")
        p_value = None if p_value is None else 1.0
        return Interval(value, nothing, nothing, nothing, p_value)
    values = kept
    reach = stdtrit(count - 1, (1 + level) / 2) * (count / (count - 1)) ** 0.5
    low, high = np.quantile(values, [ndtr(-reach), ndtr(reach)])
    return Interval(value, float(low), float(high), float(values.std()), p_value)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Return the exact two-sided p-value of McNemar's test on right and wrong items.

    Args:
        first (np.ndarray): (N,) bool, whether one run is right.
        second (np.ndarray): (N,) bool, of another run over the same items.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for as many comparisons, by Holm's steps.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(order):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted


def smallest_detectable(
    standard_error: float, level: float = 0.95, power: float = 0.8
) -> float:
    """Return the difference that a set would show with this power.

    Args:
        standard_error (float): of the paired difference.
        level (float): of the two-sided test, 0-1.
        power (float): chance to find the difference, 0-1.
    """
    return float(ndtri((1 + level) / 2) + ndtri(power)) * standard_error
