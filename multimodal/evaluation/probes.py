"""Classifiers on frozen features: multinomial logistic regression, and nearest neighbours."""

import logging
from collections.abc import Iterator

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from multimodal.evaluation.ranking import TIE, blocks, similarities

log = logging.getLogger(__name__)


def logistic_regression(
    features: np.ndarray,  # [examples, embed]
    labels: np.ndarray,  # [examples], from 0 to classes - 1
    classes: int,
    c: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [embed, classes] and bias [classes] that minimise

        c * (sum of the cross-entropies) + |weights|^2 / 2,

    as scikit-learn's LogisticRegression(C=c) does; solved to convergence in float64 by L-BFGS.
    """
    x = features.astype(np.float64)
    target = np.eye(classes)[labels]
    # Two classes have one vector of weights there, which is the difference of the two here.
    strength = (2 if classes == 2 else 1) / (c * len(x))
    # Moving or turning the features does not change the solution. On their principal axes, each
    # scaled to about the same curvature, it takes tens of steps instead of thousands.
    centre = x.mean(0)
    spread, axes = np.linalg.eigh((x - centre).T @ (x - centre) / len(x))
    scale = 1 / np.sqrt(np.maximum(spread, 0) / classes + strength)
    x = (x - centre) @ axes * scale

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = flat[:-classes].reshape(-1, classes), flat[-classes:]
        logits = x @ w + b
        shrunk = strength * scale[:, None] ** 2 * w
        value = (logsumexp(logits, 1) - (logits * target).sum(1)).mean() + (w * shrunk).sum() / 2
        wrong = (softmax(logits, 1) - target) / len(x)
        return value, np.concatenate([(x.T @ wrong + shrunk).ravel(), wrong.sum(0)])

    start = np.zeros((x.shape[1] + 1) * classes)
    options = {"maxiter": 5000, "maxfun": 10000, "ftol": 0.0, "gtol": 1e-9, "maxcor": 30}
    solved = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    steepest = np.abs(solved.jac).max()
    if steepest > 1e-5:
        log.warning("linear probe: not converged at C=%g, gradient %.1e", c, steepest)
    w, b = solved.x[:-classes].reshape(-1, classes), solved.x[-classes:]
    weights = axes @ (scale[:, None] * w)
    return weights, b - centre @ weights


def neighbour_votes(
    queries: np.ndarray,  # [queries, embed], unit vectors
    features: np.ndarray,  # [examples, embed], unit vectors
    labels: np.ndarray,  # [examples]
    classes: int,
    k: int,
    temperature: float | None,
) -> Iterator[np.ndarray]:
    """Blocks [rows, classes] of each class's share in the votes of the k nearest examples by
    cosine; a vote weighs exp(cosine / temperature) (Caron et al. 2021), or 1 without temperature.

    Examples as near as the k-th share the places that are left.
    """
    k = min(k, len(features))
    for rows in blocks(len(queries), len(features)):
        scores = np.maximum(similarities(queries[rows], features), -2)  # what is not a number
        last = np.partition(scores, -k, axis=1)[:, -k, None]  # of the k-th nearest
        nearer = scores > last + TIE
        tied = (scores >= last - TIE) & ~nearer
        places = (k - nearer.sum(1)) / tied.sum(1)
        row, example = np.nonzero(nearer | tied)
        weight = np.where(nearer[row, example], 1.0, places[row])
        if temperature is not None:
            nearest = scores.max(1)[row]  # so that the largest weight is 1
            weight *= np.exp((scores[row, example] - nearest) / temperature)
        votes = np.bincount(row * classes + labels[example], weight, len(scores) * classes)
        votes = votes.reshape(-1, classes)
        yield votes / votes.sum(1, keepdims=True)
