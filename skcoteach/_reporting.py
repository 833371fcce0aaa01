"""What ``verbose`` prints of a fit: the estimate, then epochs, in lines of at most 80 columns."""

import math
from statistics import fmean
from typing import Any

from skcoteach._training.noise_estimate import NoiseEstimate

#: Lines of a fit at ``verbose=1``, about.
N_LINES = 10
#: Of so many examples the estimate takes its time.
MANY_EXAMPLES = 10_000


def begin_estimate(verbose: int, n_samples: int) -> None:
    """That it has begun, where what comes may take minutes."""
    if verbose and n_samples >= MANY_EXAMPLES:
        print("noise rate: being estimated ...", flush=True)


def end_estimate(verbose: int, found: NoiseEstimate | None) -> None:
    """What was found and decided; None, if a callback has stopped the estimate."""
    if not verbose:
        return
    if found is None:
        print("noise rate: not estimated")
        return
    decision = f"forget rate: {found.forget_rate:.3f}" if found.forget_rate else "nothing is forgotten"
    print(f"noise rate: {found.noise_rate:.3f} ± {found.noise_rate_std:.3f}, {decision} (chosen by the data)")


def print_epoch(verbose: int, record: dict[str, Any], epochs: int) -> None:
    """A line for an entry of the history, if it is one that is shown; of both networks, the mean."""
    number = record["epoch"] + 1
    is_shown = verbose > 1 or number % math.ceil(epochs / N_LINES) == 0 or number == epochs
    if not verbose or not is_shown:
        return
    parts = [
        f"epoch {number:>{len(str(epochs))}}/{epochs}",
        f"forget {record['forget_rate']:.2f}",
        f"loss {fmean(record['loss']):.3g}",
        f"acc {fmean(record['accuracy']):.3f}",
        f"agree {record['agreement']:.3f}",
    ]
    if "val_accuracy" in record:
        parts.append(f"val {record['val_accuracy']:.3f}")
    print("  ".join(parts))


def print_return(verbose: int, best_epoch: int) -> None:
    """Whose networks are kept."""
    if verbose:
        print(f"kept: the networks of epoch {best_epoch + 1} (best_epoch_={best_epoch}), best on the validation set")
