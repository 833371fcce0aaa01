"""A number for all that a value is made of, the same in every process: of values and of code, never of pickles.

Pickles of equal values differ (those of tensors from call to call, those of modules after ``clone``), and source text
is the same for two closures over different numbers. What a user's code calls by a global name is not looked at.
"""

import copyreg
import functools
import hashlib
import random
import sys
import types
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from skcoteach._torch import buffers_of, children_of, hooks_of

#: Of which the name, and the version that others see to, say everything.
LIBRARIES = {
    "cleanlab", "numpy", "pandas", "scipy", "skcoteach", "sklearn", "torch", "transformers", *sys.stdlib_module_names
}  # fmt: skip
#: Bytes of an array that are looked at in one go.
BLOCK = 2**24
#: What every module has (``training`` is set by who uses it), and how recurrent ones point back to their weights.
OF_EVERY_MODULE = {*vars(nn.Module()), "_flat_weight_refs"}

#: Of a class, what says nothing of what it does, or what is said elsewhere, too.
OF_EVERY_CLASS = {
    "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__", "__annotations_cache__",
    "__dataclass_fields__", "__dataclass_params__", "__dict__", "__doc__", "__firstlineno__", "__module__",
    "__orig_bases__", "__parameters__", "__qualname__", "__slotnames__", "__slots__", "__static_attributes__",
    "__type_params__", "__weakref__",
}  # fmt: skip
#: What is another after every use.
GENERATORS = (torch.Generator, np.random.Generator, np.random.BitGenerator, np.random.RandomState, random.Random)


class NoDigestError(ValueError):
    """A value holds something that is not made of values."""


class Digest:
    """A digest of everything that was added, in this order.

    Examples
    --------
    >>> one, other = Digest(), Digest()
    >>> one.add({"power": 2, "function": lambda x: x + 1}, "example")
    >>> other.add({"power": 2, "function": lambda x: x + 2}, "example")
    >>> one.hexdigest() == other.hexdigest()
    False
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._known: dict[int, tuple[int, Any]] = {}  # by identity: its number, and itself, so that it stays

    def hexdigest(self) -> str:
        """32 digits."""
        return self._hash.hexdigest()

    def add(self, value: Any, name: str) -> None:
        """Add a value, which the user knows by this name.

        What is in it twice (tied weights, say) is told from what is there and once more as a copy; two values that are
        added may be copies of each other or not.

        Parameters
        ----------
        value : object
            Numbers (NumPy's count as Python's), strings, arrays, tensors and sparse matrices (those in memory by dtype,
            shape and numbers, whatever the order in memory), containers, modules, functions, classes, and any object
            that says what it is made of, as for a pickle.
        name : str
            For the message.

        Raises
        ------
        NoDigestError
            If it holds anything else, which is named.
        """
        self._known = {}
        try:
            self._add(value, name)
        except NoDigestError:
            raise
        except Exception as error:  # what objects say of themselves may be anything, and nested too deeply
            raise NoDigestError(f"{name} is or holds what cannot be looked at ({type(error).__name__})") from error

    def _add(self, value: Any, name: str) -> None:
        if isinstance(value, np.generic) and value.dtype.kind in "biufcUS":
            value = value.item()
        if type(value) is int:
            self._write("int", f"{value:x}".encode())
            return
        if value is None or type(value) in (bool, float, complex, str, bytes, type(Ellipsis)):
            self._write(type(value).__name__, repr(value).encode("utf-8", "surrogatepass"))
            return
        if type(value) is not tuple:  # of constants, Python may make one of several
            if id(value) in self._known:
                self._write("again", str(self._known[id(value)][0]).encode())
                return
            self._known[id(value)] = len(self._known), value
        adder = _CONTAINERS.get(type(value)) or next(
            (adder for kinds, adder in _ADDERS if isinstance(value, kinds)), Digest._add_object
        )
        adder(self, value, name)

    def _write(self, kind: str, content: bytes = b"") -> None:
        """So that no two rows of these are the same bytes."""
        self._hash.update(f"{kind}:{len(content)}:".encode() + content)

    def _add_parts(self, kind: str, parts: list[tuple[Any, str]]) -> None:
        self._write(kind, str(len(parts)).encode())
        for part, name in parts:
            self._add(part, name)

    def _add_sequence(self, values: list | tuple, name: str) -> None:
        self._add_parts(_name_of(type(values)), [(each, f"{name}[{i}]") for i, each in enumerate(values)])

    def _add_dict(self, values: dict, name: str) -> None:
        self._write("dict", str(len(values)).encode())
        for key, value in values.items():
            self._add(key, name)
            self._add(value, f"{name}[{key!r}]")

    def _add_set(self, values: set | frozenset, name: str) -> None:
        digests = []
        for each in values:
            one = Digest()
            one._known = dict(self._known)
            one._add(each, name)
            digests.append(one.hexdigest())
        self._add(type(values), name)
        self._write("set", " ".join(sorted(digests)).encode())

    def _add_array(self, array: np.ndarray, name: str) -> None:
        self._write("requires gradient", b"False")
        self._write("array", f"{array.dtype} {array.shape}".encode())
        if array.dtype.hasobject:
            for number, each in enumerate(array.ravel().tolist()):
                self._add(each, f"{name}[{number}]")
            return
        for block in _blocks(array, array.dtype.itemsize):
            self._hash.update(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)

    def _add_masked(self, array: np.ma.MaskedArray, name: str) -> None:
        self._add_parts("masked", [(array.data, name), (np.ma.getmaskarray(array), name)])

    def _add_tensor(self, tensor: Tensor, name: str) -> None:
        if is_lazy(tensor):
            self._write("lazy")
            return
        if tensor.is_nested or tensor.is_meta or tensor.is_quantized:
            raise _no_digest(tensor, name)
        self._write("requires gradient", str(isinstance(tensor, nn.Parameter) and tensor.requires_grad).encode())
        if tensor.layout != torch.strided:
            entries = tensor.detach().to_sparse_coo().coalesce()
            self._add_sequence([tuple(tensor.shape), entries.indices(), entries.values()], name)
            return
        self._write("array", f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}".encode())
        for block in _blocks(tensor.detach(), tensor.element_size()):
            whole = block.cpu().resolve_conj().resolve_neg().contiguous()
            self._hash.update(whole.reshape(-1).view(torch.uint8).numpy().data)

    def _add_sparse(self, matrix: Any, name: str) -> None:
        entries = matrix.tocsr() if matrix.ndim == 2 else matrix.tocoo()
        parts = (entries.data, entries.indices, entries.indptr) if matrix.ndim == 2 else (entries.data, *entries.coords)
        self._add_parts("sparse", [(each, name) for each in (tuple(matrix.shape), *parts)])

    def _add_module(self, module: nn.Module, name: str) -> None:
        self._write("module")
        self._add(type(module), name)
        settings = {key: each for key, each in vars(module).items() if key not in OF_EVERY_MODULE}
        self._add_named(settings, name)
        self._add_parts("hooks", [(each, f"{name}'s hook") for each in hooks_of(module)])
        self._add_named(dict(module.named_parameters(recurse=False, remove_duplicate=False)), name)
        self._add_named(buffers_of(module), name)
        self._add_named(children_of(module), name)

    def _add_function(self, function: types.FunctionType, name: str) -> None:
        if _is_of_library(function):
            self._write("function", _name_of(function).encode())
            return
        self._write("function", function.__qualname__.encode())
        self._add_code(function.__code__, name)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        self._add_parts("closure", [(_content(cell), f"{name}'s {variable}") for variable, cell in cells])
        self._add(function.__defaults__, f"{name}'s defaults")
        self._add(function.__kwdefaults__, f"{name}'s defaults")
        self._add_named(vars(function), name)

    def _add_code(self, code: types.CodeType, name: str) -> None:
        self._write("code", code.co_code)
        shape = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        self._add((*shape, code.co_names, code.co_varnames, code.co_exceptiontable, code.co_consts), name)

    def _add_method(self, method: types.MethodType, name: str) -> None:
        self._add_parts("method", [(method.__func__, name), (method.__self__, name)])

    def _add_builtin(self, function: Any, name: str) -> None:
        self._write("builtin", _name_of(function).encode())
        owner = getattr(function, "__self__", None)
        if owner is not None and not isinstance(owner, types.ModuleType):
            self._add(owner, name)

    def _add_class(self, kind: type, name: str) -> None:
        if _is_of_library(kind):
            self._write("class", _name_of(kind).encode())
            return
        self._write("class", kind.__name__.encode())  # all of its name that cloudpickle keeps
        self._add_parts("bases", [(each, name) for each in (type(kind), *kind.__bases__)])
        # cloudpickle, which brings classes to other processes, keeps no order
        self._add_named({key: vars(kind)[key] for key in sorted(vars(kind)) if _is_behaviour(kind, key)}, name)

    def _add_wrapper(self, wrapper: Any, name: str) -> None:
        parts = (getattr(wrapper, each, None) for each in ("__func__", "fget", "fset", "fdel", "func"))
        self._add_parts(type(wrapper).__name__, [(each, name) for each in parts])

    def _refuse(self, value: Any, name: str) -> None:
        raise _no_digest(value, name)

    def _add_enum(self, member: Enum, name: str) -> None:
        self._write("enum", member.name.encode())
        self._add(type(member), name)
        self._add(member.value, name)

    def _add_ufunc(self, function: np.ufunc, name: str) -> None:
        if getattr(np, function.__name__, None) is not function:
            raise _no_digest(function, name)
        self._add_name(function, name)

    def _add_name(self, named: Any, name: str) -> None:
        self._write(type(named).__name__, _name_of(named).encode())

    def _add_object(self, value: Any, name: str) -> None:
        """By what it says that it is made of."""
        try:
            made_of = copyreg.dispatch_table.get(type(value), _reduced)(value)
        except Exception as error:
            raise _no_digest(value, name) from error
        self._write("object")
        self._add(type(value), name)
        if isinstance(made_of, str):
            self._write("name", made_of.encode())
            self._add(getattr(value, "__wrapped__", None), name)
            return
        function, arguments, state, *inside = (*made_of, None, None, None)[:5]
        self._add(function, name)
        self._add(arguments, name)
        if isinstance(state, dict):
            self._add_named(state, name)
        else:
            self._add(state, name)
        for iterator in inside:
            self._add_sequence([] if iterator is None else list(iterator), name)

    def _add_named(self, values: dict[str, Any], name: str) -> None:
        self._write("named", str(len(values)).encode())
        for key, value in values.items():
            self._add(key, name)
            self._add(value, f"{name}.{key}")


def digest_of(value: Any, name: str) -> str | None:
    """That of a single value; None where it holds what is not made of values."""
    digest = Digest()
    try:
        digest.add(value, name)
    except NoDigestError:
        return None
    return digest.hexdigest()


#: Of what is derived from these, there may be more to say.
_CONTAINERS: dict[type, Callable] = {
    list: Digest._add_sequence,
    tuple: Digest._add_sequence,
    dict: Digest._add_dict,
    np.ndarray: Digest._add_array,
    np.memmap: Digest._add_array,
}
_ADDERS: list[tuple[Any, Callable]] = [
    (GENERATORS, Digest._refuse),
    (Enum, Digest._add_enum),
    (np.ma.MaskedArray, Digest._add_masked),
    (nn.Module, Digest._add_module),
    (Tensor, Digest._add_tensor),
    (type, Digest._add_class),
    (types.FunctionType, Digest._add_function),
    (types.MethodType, Digest._add_method),
    ((types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType), Digest._add_builtin),
    (np.ufunc, Digest._add_ufunc),
    ((types.ModuleType, torch.dtype, np.dtype), Digest._add_name),
    ((set, frozenset), Digest._add_set),
    (types.CodeType, Digest._add_code),
    ((staticmethod, classmethod, property, functools.cached_property), Digest._add_wrapper),
    (sparse.sparray | sparse.spmatrix, Digest._add_sparse),
]


def _reduced(value: Any) -> Any:
    return value.__reduce_ex__(4)


def _name_of(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or repr(value)
    return f"{getattr(value, '__module__', '')}.{name}"


def _is_of_library(value: Any) -> bool:
    """Whether it is what its name says, in a library. What a call has made, or wrapped, is not."""
    module = str(getattr(value, "__module__", ""))
    found = sys.modules.get(module) if module.partition(".")[0] in LIBRARIES else None
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _is_behaviour(kind: type, name: str) -> bool:
    """Whether an attribute of a class says what it does."""
    of_enum = issubclass(kind, Enum) and name.startswith("_") and name.endswith("_")
    of_memory = isinstance(vars(kind)[name], (types.MemberDescriptorType, types.GetSetDescriptorType))
    return not (of_enum or of_memory or name in OF_EVERY_CLASS or name.startswith("_abc_"))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _blocks(array: Any, itemsize: int) -> Iterator[Any]:
    """Parts of an array along its first axis."""
    if array.ndim == 0:
        yield array.reshape(1)
        return
    row = max(itemsize * int(np.prod(array.shape[1:], dtype=np.int64)), 1)
    step = max(BLOCK // row, 1)
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _no_digest(value: Any, name: str) -> NoDigestError:
    kind = type(value)
    return NoDigestError(f"{name} is or holds a {kind.__module__}.{kind.__qualname__}")
