"""Whether a metric should fall or rise, by its name."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from lit_lrsched.errors import InputError

Direction = Literal["min", "max"]

_FALLING = """
    loss losses logloss err error errors mae mse rmse msle rmsle mape smape nll nlls perplexity ppl bce crossentropy
    xent bpc bpb bpd wer cer ter eer ece fid kid lpips brier deviance divergence kld regret
"""
_RISING = """
    acc accs accuracy f1 f2 fbeta auc auroc rocauc auprc prauc ap map map50 precision prec recall sensitivity
    specificity r2 score iou miou jaccard dice bleu rouge meteor chrf mcc kappa ndcg mrr psnr ssim reward rewards
    pearson spearman
"""
_WORDS: dict[Direction, frozenset[str]] = {"min": frozenset(_FALLING.split()), "max": frozenset(_RISING.split())}
# These words reverse the direction that the rest of the name implies, so the name tells nothing.
_REVERSING = frozenset(["neg", "negative", "inv", "inverse", "one", "minus"])


@lru_cache(maxsize=256)
def direction_of(metric: str) -> Direction | None:
    """Returns ``"min"`` when a metric of this name should fall, ``"max"`` when it should rise.

    The name is split into words at punctuation, capitals and digits. None: no word is known, or two words contradict
    each other.

    >>> [direction_of(name) for name in ("val_loss", "val/RMSE", "val_acc", "BinaryF1Score", "top5_accuracy")]
    ['min', 'min', 'max', 'max', 'max']
    >>> [direction_of(name) for name in ("loss_acc", "neg_mean_squared_error", "lossless", "custom")]
    [None, None, None, None]
    """
    words = {word for part in re.split(r"[^A-Za-z0-9]+", metric) for word in _words(part)}
    found: list[Direction] = [direction for direction, known in _WORDS.items() if words & known]
    return found[0] if len(found) == 1 and not words & _REVERSING else None


def _words(part: str) -> list[str]:
    whole = part.lower()
    if _known(whole):
        return [whole]
    pieces = re.findall(r"[A-Z]+[0-9]*(?![a-z])|[A-Z]?[a-z]+[0-9]*", part)
    lowered = [piece.lower() for piece in pieces]
    return [word if _known(word) else word.rstrip("0123456789") for word in lowered]


def _known(word: str) -> bool:
    return any(word in known for known in _WORDS.values())


def direction_for(option: str, metric: str, mode: Direction | None) -> Direction:
    """Returns the given mode, or else the one that the metric's name implies.

    Args:
        option: What the metric is called in messages, ``"monitor"`` say.
        metric: The metric's name.
        mode: The given mode, if any.

    Raises:
        InputError: When no mode is given and the name implies none.

    >>> direction_for("metric", "val_acc", None), direction_for("metric", "val_acc", "min")
    ('max', 'min')
    """
    found = mode or direction_of(metric)
    if found is None:
        raise InputError(
            f"{option}={metric!r} does not tell by its name which way is better: "
            "give mode='min' when it should fall, or mode='max' when it should rise"
        )
    return found


def contradiction(monitor: str, mode: str) -> str | None:
    """Returns what is wrong when the mode of torch's ``ReduceLROnPlateau`` contradicts the name of its metric.

    Its mode is ``"min"`` by default, so that it cuts the rate while an accuracy improves.

    Args:
        monitor: The metric's name.
        mode: The scheduler's mode.
    """
    should = direction_of(monitor)
    if should in (None, mode):
        return None
    return (
        f"ReduceLROnPlateau(mode={mode!r}) cuts the rate while {monitor!r} gets better: give mode={should!r}, "
        f"or if that is what you want, Plateau(monitor={monitor!r}, mode={mode!r})"
    )
