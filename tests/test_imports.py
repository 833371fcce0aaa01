"""The package is a house of floors: who imports whom is read off the files, and arrows point down only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import skcoteach

PACKAGE = Path(skcoteach.__file__).parent

#: From the ground up; a room is a module of the package or a folder. Each may import its own floor and those below.
FLOORS = [
    {
        "_arrays",
        "_batches",
        "_digest",
        "_errors",
        "_interrupts",
        "_noise_counting",
        "_noise_likelihood",
        "_sklearn",
        "_state_file",
        "_torch",
        "_version",
    },
    {"augmentation", "data", "networks", "noise", "schedules"},
    {"_data"},
    {"_training"},
    {"_checkpoint", "_config", "_export", "_fit_digest", "_fitted", "_pickling", "_reporting", "_tasks"},
    {"_classifier"},
    {"_saving"},
    {"__init__", "benchmarks", "coteaching", "display", "recipes"},
]
#: These import the ground only, not each other.
LEAVES = FLOORS[1]
#: Where private names of these libraries may be used.
CORNERS = {"torch": "_torch", "sklearn": "_sklearn"}


# --- reading ---------------------------------------------------------------------------------------------------------


def modules_of(folder: Path) -> dict[str, Path]:
    """The modules below a package's folder by their dotted names within it, ``__init__`` for a package itself."""
    return {".".join(file.relative_to(folder).with_suffix("").parts): file for file in sorted(folder.rglob("*.py"))}


def imported_by(file: Path, folder: Path) -> Iterator[tuple[int, str, str]]:
    """Line, module and name of everything that a file of the package imports; no name where a module as a whole is."""
    package = [folder.name, *file.relative_to(folder).parent.parts]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, module, alias.name


def own_imports(file: Path, folder: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name within the package of every own module that a file imports."""
    modules = modules_of(folder)
    for line, module, name in imported_by(file, folder):
        package, _, inside = module.partition(".")
        if package == folder.name:
            below = f"{inside}.{name}" if inside else name
            wholes = (below, f"{below}.__init__", inside, f"{inside}.__init__" if inside else "__init__")
            yield line, next(whole for whole in wholes if whole in modules)


def names_of_others(file: Path) -> Iterator[tuple[int, str, str]]:
    """Line, whole name and name in the file of everything that a file imports of torch and scikit-learn."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
                if whole.split(".")[0] in CORNERS:
                    yield node.lineno, whole, alias.asname or alias.name


def private_uses(file: Path) -> Iterator[tuple[int, str]]:
    """Line and name of everything with a leading underscore that a file imports of torch and scikit-learn, or takes."""
    whole_names = {}
    for line, whole, name in names_of_others(file):
        if any(map(is_private, whole.split("."))):
            yield line, whole
        first = name.split(".")[0]  # of `import torch.nn`
        whole_names[first] = whole if first == name else first
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            first, _, rest = ast.unparse(node).partition(".")
            if first in whole_names:
                yield node.lineno, f"{whole_names[first]}.{rest}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def room_of(module: str) -> str:
    return module.split(".")[0]


def floor_of(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room_of(module) in rooms)


# --- the rules -------------------------------------------------------------------------------------------------------


def without_a_floor(folder: Path) -> list[str]:
    return [module for module in modules_of(folder) if not any(room_of(module) in rooms for rooms in FLOORS)]


def pointing_up(folder: Path) -> list[str]:
    """What imports a floor above its own, and leaves that import each other."""
    found = []
    for module, file in modules_of(folder).items():
        for line, imported in own_imports(file, folder):
            sideways = {room_of(module), room_of(imported)} <= LEAVES
            if floor_of(imported) > floor_of(module) or sideways:
                found.append(f"{module}:{line} imports {imported}")
    return found


def circles(folder: Path) -> list[str]:
    """Modules that import themselves, by way of others."""
    arrows = {module: {name for _, name in own_imports(file, folder)} for module, file in modules_of(folder).items()}
    found = []
    for start in arrows:
        reached, new = set(), arrows[start]
        while new:
            reached |= new
            new = {after for module in new for after in arrows[module]} - reached
        if start in reached:
            found.append(start)
    return found


def private(folder: Path) -> list[str]:
    """Private names of torch and scikit-learn that are used elsewhere than in the files that are there for this."""
    return [
        f"{module}:{line} uses {name}"
        for module, file in modules_of(folder).items()
        for line, name in private_uses(file)
        if module != CORNERS[name.split(".")[0]]
    ]


def of_scikit_learn(folder: Path) -> list[str]:
    """What the training has of scikit-learn but for the type of an error."""
    found = []
    for module, file in modules_of(folder).items():
        if room_of(module) == "_training":
            for line, imported, name in imported_by(file, folder):
                whole = f"{imported}.{name}".rstrip(".")
                corner = f"{whole}.".startswith(f"{folder.name}._sklearn.") and not name.endswith("Error")
                if whole.split(".")[0] == "sklearn" or corner:
                    found.append(f"{module}:{line} imports {whole}")
    return found


RULES = [without_a_floor, pointing_up, circles, private, of_scikit_learn]


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule):
    assert rule(PACKAGE) == []


def test_the_whole_package_is_looked_at():
    modules = modules_of(PACKAGE)
    assert {room for rooms in FLOORS for room in rooms} == set(map(room_of, modules))
    assert {"_data.inputs", "_training.engines.chains", "benchmarks.__main__", "__init__"} <= modules.keys()
    assert "torch.nn.modules.module._has_any_global_hook" in dict(map(reversed, private_uses(modules["_torch"])))


# --- the rules can be broken -----------------------------------------------------------------------------------------

#: A house in which all is well.
SOUND = {
    "__init__": "from house import networks, recipes\nfrom house._classifier import Classifier",
    "_errors": "import sklearn.callback\nimport torch\ntorch.__version__, sklearn.callback.__file__",
    "_torch": "from torch.nn.modules.module import _has_any_global_hook\nimport torch\ntorch._fused_adam_",
    "_sklearn": "from sklearn.utils._param_validation import InvalidParameterError\nfrom sklearn.utils import _x as x",
    "_arrays": "from house._sklearn import x",
    "networks": "from house._errors import warn_user",
    "noise": "import numpy._core",
    "_data.__init__": "",
    "_data.inputs": "from torch.utils.data import Dataset",
    "_data.training_data": "from house._data.inputs import Inputs\nfrom . import inputs\nimport house.networks",
    "_training.__init__": "",
    "_training.config": "from house import networks\nfrom house._sklearn import InvalidParameterError\nself._torch",
    "_training.engines.__init__": "",
    "_training.engines.chains": "from ..config import Config\nfrom ..._data import inputs\nfrom house import _data",
    "_config": "from sklearn.base import clone\nfrom house._training.config import Config",
    "_fitted": "def f():\n    from house import _config",
    "_classifier": "import house._fitted",
    "recipes": "from house._classifier import Classifier",
    "benchmarks.__init__": "",
    "benchmarks.speed": "from house import Classifier, recipes\nfrom house.benchmarks import table",
    "benchmarks.table": "",
}


def build(folder, more):
    for module, source in (SOUND | more).items():
        file = folder.joinpath("house", *module.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return folder / "house"


@pytest.mark.parametrize("rule", RULES)
def test_a_sound_house_is_found_sound(rule, tmp_path):
    assert rule(build(tmp_path, {})) == []


@pytest.mark.parametrize(
    ("rule", "module", "source", "found"),
    [
        (without_a_floor, "_new", "", ["_new"]),
        (without_a_floor, "_new.part", "", ["_new.part"]),
        (pointing_up, "_errors", "from house.networks import MLP", ["_errors:1 imports networks"]),
        (pointing_up, "_data.inputs", "\nimport house._training", ["_data.inputs:2 imports _training.__init__"]),
        (pointing_up, "_data.inputs", "from house import _training", ["_data.inputs:1 imports _training.__init__"]),
        (pointing_up, "_data.inputs", "from .._training.config import C", ["_data.inputs:1 imports _training.config"]),
        (pointing_up, "_data.inputs", "from .. import _config", ["_data.inputs:1 imports _config"]),
        (pointing_up, "_data.inputs", "import house", ["_data.inputs:1 imports __init__"]),
        (pointing_up, "_training.config", "import house as h", ["_training.config:1 imports __init__"]),
        (pointing_up, "_training.config", "from house import Classifier", ["_training.config:1 imports __init__"]),
        (pointing_up, "_training.config", "from house._fitted import x", ["_training.config:1 imports _fitted"]),
        (
            pointing_up,
            "_training.engines.chains",
            "from ... import recipes",
            ["_training.engines.chains:1 imports recipes"],
        ),
        (pointing_up, "_config", "def f():\n    import house._classifier", ["_config:2 imports _classifier"]),
        (pointing_up, "_classifier", "from house import recipes", ["_classifier:1 imports recipes"]),
        (pointing_up, "_classifier", "import house.benchmarks.speed", ["_classifier:1 imports benchmarks.speed"]),
        (pointing_up, "noise", "from house._data.inputs import x", ["noise:1 imports _data.inputs"]),
        (pointing_up, "noise", "from house import networks", ["noise:1 imports networks"]),
        (circles, "_data.inputs", "def f():\n    from . import training_data", ["_data.inputs", "_data.training_data"]),
        (circles, "_arrays", "import house._arrays", ["_arrays"]),
        (private, "_data.inputs", "import torch._dynamo", ["_data.inputs:1 uses torch._dynamo"]),
        (private, "_data.inputs", "import torch._dynamo as d", ["_data.inputs:1 uses torch._dynamo"]),
        (private, "_data.inputs", "from torch._C import x", ["_data.inputs:1 uses torch._C.x"]),
        (private, "_data.inputs", "from torch.nn import _x as y", ["_data.inputs:1 uses torch.nn._x"]),
        (private, "_data.inputs", "import torch\nx = torch._foo(1)", ["_data.inputs:2 uses torch._foo"]),
        (private, "_data.inputs", "import torch as t\nt.nn._b", ["_data.inputs:2 uses torch.nn._b"]),
        (private, "_data.inputs", "from torch import nn\nnn.a._b.c", ["_data.inputs:2 uses torch.nn.a._b"]),
        (
            private,
            "_data.inputs",
            "import torch.nn.functional as F\nF._x",
            ["_data.inputs:2 uses torch.nn.functional._x"],
        ),
        (private, "_data.inputs", "import torch.nn.functional\ntorch._x", ["_data.inputs:2 uses torch._x"]),
        (private, "_config", "from sklearn.utils._tags import x", ["_config:1 uses sklearn.utils._tags.x"]),
        (private, "_sklearn", "import torch\ntorch._x", ["_sklearn:2 uses torch._x"]),
        (private, "_torch", "from sklearn.base import _x", ["_torch:1 uses sklearn.base._x"]),
        (private, "benchmarks.speed", "import sklearn\nsklearn._x", ["benchmarks.speed:2 uses sklearn._x"]),
        (of_scikit_learn, "_training.config", "import sklearn", ["_training.config:1 imports sklearn"]),
        (of_scikit_learn, "_training.config", "from sklearn.a import b", ["_training.config:1 imports sklearn.a.b"]),
        (of_scikit_learn, "_training.config", "from .. import _sklearn", ["_training.config:1 imports house._sklearn"]),
        (
            of_scikit_learn,
            "_training.config",
            "from .._sklearn import x",
            ["_training.config:1 imports house._sklearn.x"],
        ),
        (
            of_scikit_learn,
            "_training.engines.chains",
            "import house._sklearn",
            ["_training.engines.chains:1 imports house._sklearn"],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None) or (value if isinstance(value, str) else ""),
)
def test_what_breaks_a_rule_is_found(rule, module, source, found, tmp_path):
    assert rule(build(tmp_path, {module: source})) == found
