"""What several processes do together: run in each of them by ``contract/test_distributed.py``, which looks at it.

``python distributed_script.py RANK SIZE PORT FOLDER [NAME]`` runs what is in ``WORK``, one after the other, and writes
what came of each to ``FOLDER/RANK.pickle``: what it returned or the error, and the seconds it took. A failure of one
leaves the next as if nothing had been.
"""

import os
import pickle
import sys
import threading
import time
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits, make_classification
from torch import nn
from torch.utils.data import Dataset

from skcoteach import CoTeachingClassifier, _checkpoint
from skcoteach.augmentation import RandomShift
from skcoteach.networks import SmallCNN

X, y = make_classification(n_samples=403, n_features=8, n_informative=5, n_classes=3, class_sep=2.0, random_state=0)
GIVEN = y.copy()
GIVEN[::5] = (GIVEN[::5] + 1) % 3
IMAGES = load_digits().images[:200, None].astype(np.float32) / 16
DIGITS = load_digits().target[:200]
#: What is fitted by one process, too.
ALIKE = {
    "chain": {"forget_rate": 0.2, "epochs": 5},
    "auto": {"epochs": 4},
    "weights": {"forget_rate": 0.2, "epochs": 5, "class_weight": "balanced", "batch_size": 50},
    "early stopping": {"forget_rate": 0.2, "epochs": 12, "early_stopping": True, "n_iter_no_change": 2},
    "one batch, smaller than the processes are many": {"forget_rate": 0.0, "epochs": 2},
    "few batches": {"forget_rate": 0.2, "epochs": 4, "num_iter_per_epoch": 2},
}  # fmt: skip


def fit_alike(name, **others):
    """One of ``ALIKE``, in double precision, without random numbers but for the order and the first weights."""
    rows = slice(0, 3) if "smaller" in name else slice(None)
    weights = np.linspace(0, 2, len(X)) if name == "weights" else None
    return CoTeachingClassifier(precision="float64", random_state=0, **ALIKE[name], **others).fit(
        X[rows], GIVEN[rows], weights
    )


class WithDropout(nn.Module):
    """Draws random numbers, and is no chain."""

    def __init__(self, n_classes):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, n_classes)

    def forward(self, inputs):
        """Logits."""
        return self.second(nn.functional.dropout(self.first(inputs).relu(), 0.5, self.training))


class Failing(WithDropout):
    """In the second process, after some batches."""

    n_calls = 0

    def forward(self, inputs):
        """Logits, or none."""
        Failing.n_calls += self.training
        if RANK == 1 and Failing.n_calls > 5:
            raise OSError("the user's own forward")
        return super().forward(inputs)


class KeepsMeans(WithDropout):
    """Of a batch, in a buffer."""

    def __init__(self, n_classes):
        super().__init__(n_classes)
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, inputs):
        """Logits."""
        if self.training:
            self.mean.copy_(inputs.mean(0))
        return super().forward(inputs)


class WithBatchNorm(nn.Sequential):
    """Needs the whole batch."""

    def __init__(self, n_classes):
        super().__init__(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, n_classes))


class Rows(Dataset):
    """X; the second process can ask for so many of them only."""

    def __init__(self, fails_after=None):
        self.n_asked, self.fails_after = 0, fails_after

    def __len__(self):
        """As many as X."""
        return len(X)

    def __getitem__(self, number):
        """A row."""
        self.n_asked += 1
        if self.fails_after is not None and RANK == 1 and self.n_asked > self.fails_after:
            raise OSError("the user's own Dataset")
        return torch.from_numpy(X[number])


class Callback:
    """Stops or fails in the third epoch."""

    def __init__(self, error=None):
        self.error, self.epochs = error, 0

    def setup(self, estimator, context):
        """Nothing."""

    def teardown(self, estimator, context):
        """Nothing."""

    def on_fit_task_begin(self, estimator, context, **arguments):
        """Nothing."""

    def on_fit_task_end(self, estimator, context, **arguments):
        """Count, and stop."""
        self.epochs += context.task_name == "epoch"
        if context.task_name == "epoch" and self.epochs == 3:
            if self.error is not None:
                raise self.error
            return True
        return False


def small(**parameters):
    """A classifier that is soon done."""
    return CoTeachingClassifier(
        **{"forget_rate": 0.2, "epochs": 4, "random_state": 0, "distributed": True} | parameters
    )


def bits(classifier, inputs=X):
    """All that all processes must have alike."""
    state = [p.detach().numpy().copy() for network in classifier.modules_ for p in network.state_dict().values()]
    history = [{k: v for k, v in entry.items() if k != "duration"} for entry in classifier.history_]
    found = [classifier.predict_proba(inputs), classifier.label_quality_, classifier.kept_frequency_]
    return {"arrays": [*state, *found], "history": history}


def random_numbers():
    """Dropout of an own module, averaged weights."""
    return bits(small(module=WithDropout, average_decay=0.9, random_state=None).fit(X, GIVEN))


def augmented_images():
    """A network of the package."""
    return bits(small(module=SmallCNN, module__width=4, augment=RandomShift(1)).fit(IMAGES, DIGITS), IMAGES)


def rows_read():
    """Rows of a Dataset that an epoch asks for, beyond those that are looked at before and after it."""
    asked = []
    for epochs in (1, 2):
        rows = Rows()
        small(epochs=epochs, module=WithDropout).fit(rows, GIVEN)
        asked.append(rows.n_asked)
    return asked[1] - asked[0]


def other_labels():
    """The second process has others."""
    small().fit(X, GIVEN if RANK != 1 else np.roll(GIVEN, 1))


def other_parameter():
    """The second process has another."""
    small(lr=1e-3 * (1 + RANK)).fit(X, GIVEN)


def bad_input():
    """The second process has it."""
    small().fit(X if RANK != 1 else np.where(X > 2, np.nan, X), GIVEN)


def stopped_by_callback():
    """Only the first process has one."""
    return bits(small(epochs=10).set_callbacks(*([Callback()] if RANK == 0 else [])).fit(X, GIVEN))


def callback_told_in_first_only():
    """All have one."""
    callback = Callback()
    small(epochs=2).set_callbacks(callback).fit(X, GIVEN)
    return callback.epochs


def interrupted():
    """Ctrl-C in the second process."""
    error = KeyboardInterrupt()
    classifier = small(module=WithDropout, epochs=6)

    def augment(batch):
        interrupted.n_calls = getattr(interrupted, "n_calls", 0) + 1
        if RANK == 1 and interrupted.n_calls > 10:
            raise error
        return batch

    try:
        classifier.set_params(augment=augment).fit(X, GIVEN)
    except KeyboardInterrupt:
        return "interrupted", classifier.n_iter_


def printed():
    """What each of them prints."""
    with redirect_stdout(StringIO()) as out:
        small(verbose=2, forget_rate="auto").fit(X, GIVEN)
    return out.getvalue()


def gone_on_with():
    """A fit that has failed, from its checkpoint, which the first process alone can read."""
    folder = Path(FOLDER) / f"checkpoints of {RANK}"
    _checkpoint.SECONDS_BETWEEN_WRITES = 0
    parameters = {"epochs": 6, "checkpoint": folder, "module": WithDropout, "average_decay": 0.9}
    whole = bits(small(**parameters | {"checkpoint": None}).fit(X, GIVEN))
    callbacks = [Callback(OSError("a callback"))] if RANK == 0 else []
    try:
        small(**parameters).set_callbacks(*callbacks).fit(X, GIVEN)
    except (OSError, RuntimeError):
        pass
    with redirect_stdout(StringIO()) as out:
        resumed = bits(small(verbose=1, **parameters).fit(X, GIVEN))
    return {"whole": whole, "resumed": resumed, "printed": out.getvalue(), "files": len(list(folder.glob("*")))}


def in_a_thread():
    """A second fit beside the first one."""
    errors, threads = [], []

    def second():
        try:
            small().fit(X, GIVEN)
        except RuntimeError as error:
            errors.append(str(error))

    def augment(batch):
        if not threads:
            threads.append(threading.Thread(target=second))
            threads[0].start()
        return batch

    small(module=WithDropout, epochs=20, augment=augment).fit(X, GIVEN)
    threads[0].join()
    return errors


WORK = {
    **{name: (lambda name=name: bits(fit_alike(name, distributed=True), X)) for name in ALIKE},
    "random numbers": random_numbers,
    "augmented images": augmented_images,
    "rows read": rows_read,
    "forward": lambda: small(module=Failing).fit(X, GIVEN),
    "Dataset": lambda: small().fit(Rows(fails_after=900), GIVEN),
    "callback": lambda: small().set_callbacks(*([Callback(OSError("a callback"))] if RANK == 0 else [])).fit(X, GIVEN),
    "other labels": other_labels,
    "other parameter": other_parameter,
    "bad input": bad_input,
    "diverged": lambda: small(lr=1e38, optimizer=torch.optim.SGD).fit(X, GIVEN),
    "batch statistics": lambda: small(module=WithBatchNorm).fit(X, GIVEN),
    "own batch statistics": lambda: small(module=KeepsMeans).fit(X, GIVEN),
    "partial_fit": lambda: small().partial_fit(X, GIVEN, classes=[0, 1, 2]),
    "stopped by a callback": stopped_by_callback,
    "callbacks told": callback_told_in_first_only,
    "interrupted": interrupted,
    "printed": printed,
    "gone on with": gone_on_with,
    "in a thread": in_a_thread,
    "after all failures": lambda: bits(fit_alike("chain", distributed=True)),
}  # fmt: skip


def run():
    """All of it."""
    results = {}
    for name in sys.argv[5:] or WORK:
        start = time.monotonic()
        try:
            found = WORK[name]()
        except Exception as error:
            found = error
        results[name] = found, time.monotonic() - start
        Path(FOLDER, f"{RANK}.pickle").write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    RANK, SIZE, FOLDER = int(sys.argv[1]), int(sys.argv[2]), sys.argv[4]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[3], RANK=str(RANK), WORLD_SIZE=str(SIZE))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    run()
    dist.destroy_process_group()
