"""Where :mod:`skcoteach.recipes` was before; its names can still be imported from here."""

from skcoteach.recipes import DATASETS, NEVER, PARTS, PaperAdam, fast, paper, without

__all__ = ["DATASETS", "NEVER", "PARTS", "PaperAdam", "fast", "paper", "without"]
