"""What callables of the user's take, and the words that refuse what they do not."""

import inspect
from collections.abc import Callable, Iterable

from skcoteach._sklearn import InvalidParameterError


def _signature(made_by: Callable) -> inspect.Signature | None:
    try:
        return inspect.signature(made_by)
    except (TypeError, ValueError):  # a few built-in callables have none
        return None


def accepted_by(made_by: Callable) -> dict[str, bool]:
    """Names that a callable takes as keywords, and whether each has a default."""
    signature = _signature(made_by)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = signature.parameters.values() if signature else ()
    return {p.name: p.default is not p.empty for p in parameters if p.kind in kinds}


def check_takes(made_by: Callable, given: dict, prefixes: dict[str, str], name: str) -> None:
    """Refuse prefixed names that a module or optimizer does not take.

    Raises
    ------
    InvalidParameterError
        Naming the parameters as the user wrote them.
    """
    signature = _signature(made_by)
    if signature is None or any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return
    accepted = accepted_by(made_by)
    unknown = [each for each in given if each not in accepted]
    if unknown:
        raise InvalidParameterError(
            f"{name} does not take {', '.join(unknown)} (given as {listed(unknown, prefixes)}). "
            f"It takes: {', '.join(accepted) or 'nothing'}."
        )


def listed(given: Iterable[str], prefixes: dict[str, str]) -> str:
    """The names as the user wrote them."""
    return ", ".join(f"{prefixes[each]}__{each}" for each in given)
