"""What users see of the package: public names, and types that find their mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest

import skcoteach

#: Line 10 has the mistake.
SCRIPT = """\
from pathlib import Path

import numpy as np
from skcoteach import CoTeachingClassifier, load, recipes, save
from skcoteach.noise import estimate_noise

rng = np.random.default_rng(0)
X = rng.normal(size=(100, 64)).astype(np.float32)
y = rng.integers(0, 10, size=100)
mistaken = CoTeachingClassifier(epochs="ten")
clf = CoTeachingClassifier(forget_rate=0.2, epochs=10, module__hidden=(8,), random_state=0)
predicted: np.ndarray = clf.fit(X, y, sample_weight=np.ones(100)).predict(X)
probabilities: np.ndarray = clf.predict_proba(X)
accuracy: float = clf.score(X, y)
suspicious = clf.get_label_issues().sort_values("label_quality").head(10)
estimate = estimate_noise(y, probabilities)
rate: float = estimate.noise_rate
recipe: CoTeachingClassifier = recipes.fast("digits", random_state=0).set_params(epochs=5)
save(clf, Path("classifier.skcoteach"))
again: CoTeachingClassifier = load("classifier.skcoteach")
"""


def test_dir_shows_what_is_public_and_no_more():
    program = "import skcoteach.benchmarks, skcoteach; print(*dir(skcoteach))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert shown == sorted(skcoteach.__all__)
    assert {"CoTeachingClassifier", "noise", "__version__"} <= set(shown)
    assert not [name for name in shown if name.startswith("_") and name != "__version__"]


def test_the_types_of_a_users_script_find_its_mistake_and_no_other(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "skcoteach").symlink_to(Path(skcoteach.__file__).parent)
    # silent: of the package and what it imports, only the types count, as of an installed one
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir=cache", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    mistake, summary = done.stdout.splitlines()
    assert mistake.startswith('script.py:10: error: Argument "epochs" to "CoTeachingClassifier"'), done.stdout
    assert 'incompatible type "str"; expected "int"' in mistake
    assert summary.startswith("Found 1 error in 1 file")
