"""The one way this package compiles its loops: numba, one signature, kept on disk between processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba as nb

_Function = TypeVar("_Function", bound=Callable[..., Any])


def array_type(dtype: Any, dimensions: int, *, written: bool = False) -> Any:
    """Numba's type of a C-contiguous array; unless it is `written`, read-only arrays are taken too."""
    return nb.types.Array(dtype, dimensions, "C", readonly=not written)


def compiled(signature: Any) -> Callable[[_Function], _Function]:
    """Compile a function for one `signature` when its module is imported, or load it from numba's cache.

    The cache lies beside the module, or in the user's cache folder where the package is read-only. Where
    neither can be written numba refuses to cache, and the function is compiled in every process instead.
    Division follows IEEE 754 (no ZeroDivisionError); sums are not reordered.
    """

    def compile_function(function: _Function) -> _Function:
        try:
            dispatcher = nb.njit(cache=True, error_model="numpy")(function)
        except RuntimeError:  # what numba raises, before it compiles, where no cache folder can be written
            dispatcher = nb.njit(error_model="numpy")(function)
        dispatcher.compile(signature)
        dispatcher.disable_compile()
        return cast("_Function", dispatcher)

    return compile_function
