"""Golden figures: digests of some thirty fits, to the bit. Here only while the house is rebuilt.

python tests/golden.py write     store what the code gives now in golden.json
python tests/golden.py           compare with what is stored; the names of what differs
"""

import hashlib
import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy import sparse
from sklearn.datasets import load_digits, make_classification
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from skcoteach import CoTeachingClassifier
from skcoteach.augmentation import RandomFlip, RandomShift
from skcoteach.networks import SmallCNN

torch.set_num_threads(1)
STORE = Path(__file__).with_name("golden.json")


class Normed(nn.Module):
    """Batch statistics, dropout and a buffer that is not stored."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.first, self.norm = nn.Linear(n_features, 16), nn.BatchNorm1d(16)
        self.drop, self.last = nn.Dropout(0.2), nn.Linear(16, n_classes)
        self.register_buffer("steps", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.steps += 1
        return self.last(self.drop(torch.relu(self.norm(self.first(x))))) + 0 * self.steps


class Conv(nn.Module):
    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.conv, self.last = nn.Conv2d(n_channels, 6, 3), nn.Linear(6, n_classes)

    def forward(self, x):
        return self.last(torch.relu(self.conv(x)).amax((2, 3)))


class Forward(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.first, self.last = nn.Linear(n_features, 16), nn.Linear(16, n_classes)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


def chain(n_features, n_classes):
    return nn.Sequential(
        nn.Linear(n_features, 16), nn.Sequential(nn.Tanh(), nn.Linear(16, 12)), nn.GELU(), nn.Linear(12, n_classes)
    )


def embedding(n_classes):
    return nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(32, n_classes))


class Items(Dataset):
    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], -1


class Watch:
    def __init__(self, stop=10**9, interrupt=10**9):
        self.stop, self.interrupt, self.seen = stop, interrupt, []

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name != "epoch":
            return False
        self.seen.append(digest(fitted_estimator))
        if fitted_estimator.n_iter_ == self.interrupt:
            raise KeyboardInterrupt
        return fitted_estimator.n_iter_ >= self.stop


class PressesCtrlC(Normed):
    calls, at = 0, 10**9

    def forward(self, x):
        if self.training:
            type(self).calls += 1
            if type(self).calls == type(self).at:
                raise KeyboardInterrupt
        return super().forward(x)


X, Y = make_classification(300, 8, n_informative=5, n_classes=3, class_sep=2.0, random_state=0)
X = X.astype(np.float32)
GIVEN = np.where(np.arange(300) % 5 == 0, (Y + 1) % 3, Y)
XB, YB = make_classification(700, 8, n_informative=6, n_classes=3, class_sep=2.5, random_state=1)
XB = XB.astype(np.float32)
GIVENB = np.where(np.arange(700) % 4 == 0, (YB + 1) % 3, YB)
DIGITS, DY = load_digits(return_X_y=True)
IMAGES = (DIGITS[:300] / 16).reshape(-1, 1, 8, 8).astype(np.float32)
WEIGHTS = np.random.default_rng(0).uniform(0, 2, 300) * (np.arange(300) % 7 > 0)


def make(**parameters):
    return CoTeachingClassifier(
        **{"forget_rate": 0.2, "epochs": 5, "num_gradual": 3, "batch_size": 32, "random_state": 3, **parameters}
    )


def auto(**parameters):
    return make(forget_rate="auto", **parameters)


def partial(clf, n=3, weights=None):
    for _ in range(n):
        clf.partial_fit(X, GIVEN, classes=[0, 1, 2], sample_weight=weights)
    return clf


def interrupted(clf, *data, at=None, **more):
    PressesCtrlC.calls, PressesCtrlC.at = 0, at or 10**9
    try:
        clf.fit(*data, **more)
    except KeyboardInterrupt:
        return clf
    finally:
        PressesCtrlC.at = 10**9
    raise AssertionError("not interrupted")


def watched(clf, watch, *data):
    try:
        clf.set_callbacks(watch).fit(*data)
    except KeyboardInterrupt:
        pass
    return clf, watch.seen


CASES = {
    "default": lambda: make().fit(X, GIVEN),
    "chain": lambda: make(module=chain).fit(X, GIVEN),
    "forward": lambda: make(module=Forward).fit(X, GIVEN),
    "normed": lambda: make(module=Normed).fit(X, GIVEN),
    "float64": lambda: make(precision="float64").fit(X.astype(float), GIVEN),
    "float64 normed": lambda: make(module=Normed, precision="float64").fit(X.astype(float), GIVEN),
    "bf16": lambda: make(precision="bf16").fit(X, GIVEN),
    "tf32": lambda: make(precision="tf32").fit(X, GIVEN),
    "weights": lambda: make().fit(X, GIVEN, sample_weight=WEIGHTS),
    "weights normed": lambda: make(module=Normed).fit(X, GIVEN, sample_weight=WEIGHTS),
    "balanced": lambda: make(class_weight="balanced").fit(X, GIVEN, sample_weight=WEIGHTS),
    "class weights": lambda: make(class_weight={0: 2.0, 1: 0.5}).fit(X, GIVEN),
    "no floor": lambda: make(class_floor=0.0, exponent=0.7).fit(X, GIVEN),
    "nothing forgotten": lambda: make(forget_rate=0).fit(X, GIVEN),
    "average": lambda: make(average_decay=0.9).fit(X, GIVEN),
    "average normed": lambda: make(module=Normed, average_decay=0.9).fit(X, GIVEN),
    "augment": lambda: make(augment=lambda x: x + 0.1 * torch.randn_like(x)).fit(X, GIVEN),
    "cnn": lambda: make(augment=nn.Sequential(RandomFlip(), RandomShift(1)), module__width=4).fit(IMAGES, DY[:300]),
    "bytes": lambda: make(module=SmallCNN, module__width=4).fit((IMAGES * 255).astype(np.uint8), DY[:300]),
    "users cnn": lambda: make(module=Conv).fit(IMAGES, DY[:300]),
    "dataset": lambda: make().fit(Items(torch.from_numpy(X)), GIVEN),
    "tensor dataset": lambda: make(module=Normed).fit(TensorDataset(torch.from_numpy(X)), GIVEN),
    "sparse": lambda: make().fit(sparse.csr_array(X * (np.abs(X) > 1)), GIVEN),
    "fortran float64": lambda: make().fit(np.asfortranarray(X.astype(float)), GIVEN),
    "strings": lambda: make().fit(X, np.array(["a", "b", "c"])[GIVEN]),
    "embedding": lambda: make(module=embedding).fit((np.abs(X * 2).astype(int) % 10), GIVEN),
    "sgd": lambda: make(optimizer=torch.optim.SGD, optimizer__momentum=0.9, lr=0.05).fit(X, GIVEN),
    "own optimizer": lambda: make(optimizer=lambda p, lr: torch.optim.Adamax(p, lr=lr)).fit(X, GIVEN),
    "amsgrad": lambda: make(optimizer__amsgrad=True, optimizer__weight_decay=0.1).fit(X, GIVEN),
    "adamw normed": lambda: make(module=Normed, optimizer=torch.optim.AdamW).fit(X, GIVEN),
    "few batches": lambda: make(num_iter_per_epoch=4, num_gradual=1).fit(X, GIVEN),
    "two modules": lambda: make(module=Normed, module2=Forward).fit(X, GIVEN),
    "partial": lambda: partial(make()),
    "partial normed": lambda: partial(make(module=Normed), weights=WEIGHTS),
    "partial average": lambda: partial(make(average_decay=0.9)),
    "fit, then partial": lambda: partial(make(optimizer=torch.optim.SGD, optimizer__momentum=0.9).fit(X, GIVEN)),
    "fit with average, then partial": lambda: partial(make(module=Normed, average_decay=0.9).fit(X, GIVEN), 2),
    "stopped": lambda: watched(make(), Watch(stop=3), X, GIVEN),
    "stopped normed": lambda: watched(make(module=Normed, average_decay=0.9), Watch(stop=3), X, GIVEN),
    "ctrl-c of a callback": lambda: watched(make(), Watch(interrupt=3), X, GIVEN),
    "ctrl-c in a step": lambda: interrupted(make(module=PressesCtrlC), X, GIVEN, at=47),
    "ctrl-c in a step, average, partial": lambda: partial(
        interrupted(make(module=PressesCtrlC, average_decay=0.9, optimizer=torch.optim.SGD), X, GIVEN, at=66), 2
    ),
    "auto": lambda: auto().fit(XB, GIVENB),
    "auto normed": lambda: auto(module=Normed).fit(XB, GIVENB),
    "auto average weights": lambda: auto(average_decay=0.9, class_weight="balanced").fit(
        XB, GIVENB, sample_weight=np.linspace(0.5, 3, 700)
    ),
    "auto users cnn average": lambda: auto(module=Conv, average_decay=0.9).fit(
        (DIGITS / 16).reshape(-1, 1, 8, 8).astype(np.float32)[DY < 3], DY[DY < 3]
    ),
    "auto, few batches": lambda: auto(num_iter_per_epoch=6).fit(XB, GIVENB),
    "auto watched": lambda: watched(auto(), Watch(stop=2), XB, GIVENB),
    "auto, too few data": lambda: auto().fit(X, GIVEN),
    "auto, then partial": lambda: partial(auto().fit(XB, GIVENB).set_params(forget_rate=0.2), 2),
}


def hashed(*values):
    h = hashlib.sha256()
    for value in values:
        value = value.detach().cpu().contiguous() if isinstance(value, torch.Tensor) else value
        value = np.ascontiguousarray(value)
        h.update(
            f"{value.dtype}{value.shape}".encode()
            + (repr(value.tolist()).encode() if value.dtype.kind in "OU" else value.tobytes())
        )
    return h.hexdigest()[:12]


def digest(clf):
    inputs = {300: X, 700: XB}.get(len(getattr(clf, "kept_frequency_", X)), X)
    shape, embeds = clf._state.item_shape if hasattr(clf._state, "item_shape") else clf._state.form.item_shape, None
    if len(shape) == 3:
        inputs = IMAGES if clf._state_kind == "f" else (IMAGES * 255).astype(np.uint8)
    elif (
        embeds is None
        and isinstance(next(clf.modules_[0].modules(), None), nn.Sequential)
        and isinstance(clf.modules_[0][0], nn.Embedding)
    ):
        inputs = np.abs(X * 2).astype(int) % 10
    networks = [(*n.parameters(), *n.buffers()) for n in clf.modules_]
    result = {
        "weights": hashed(*(t for tensors in networks for t in tensors)),
        "history": hashed(repr([{k: v for k, v in each.items() if k != "duration"} for each in clf.history_])),
        "proba": hashed(clf.predict_proba(inputs)),
        "log_proba": hashed(clf.predict_log_proba(inputs[:50])),
        "predict": hashed(clf.predict(inputs)),
        "schedule": hashed(clf.forget_rate_schedule_, clf.forget_rate_, clf.n_iter_),
    }
    for name in ("kept_frequency_", "label_quality_", "noise_rate_", "noise_matrix_"):
        if hasattr(clf, name):
            result[name] = hashed(getattr(clf, name))
    if hasattr(clf, "label_quality_"):
        issues = clf.get_label_issues()
        result["issues"] = hashed(issues.is_label_issue.to_numpy(), issues.predicted_label.to_numpy())
    return result


def run():
    warnings.simplefilter("ignore")
    results = {}
    for name, case in CASES.items():
        made = case()
        clf, seen = made if isinstance(made, tuple) else (made, [])
        CoTeachingClassifier._state_kind = "b" if name == "bytes" else "f"
        results[name] = digest(clf) | {f"epoch {i}": each for i, each in enumerate(seen)}
    return results


def main():
    results = json.loads(json.dumps(run()))
    if sys.argv[1:] == ["write"]:
        STORE.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        return
    stored = json.loads(STORE.read_text())
    different = {
        name: [
            key
            for key in {**stored.get(name, {}), **results.get(name, {})}
            if stored.get(name, {}).get(key) != results.get(name, {}).get(key)
        ]
        for name in {**stored, **results}
        if stored.get(name) != results.get(name)
    }
    for name, keys in different.items():
        print(f"{name}: {', '.join(keys)}")
    print(f"{len(results) - len(different)} of {len(results)} as stored")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
