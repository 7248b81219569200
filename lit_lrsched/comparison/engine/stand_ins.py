"""What stands for a value that no graph can hold: it may be passed around, and whoever asks for it is refused."""

from __future__ import annotations

from typing import Any

from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.optim.torch_internals import tree_leaves


class StandIn:
    """Stands for a value that nobody may ask for.

    Args:
        reason: Why whoever asks cannot be traced.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def refuse(self, *_: Any) -> Any:
        """Refuses whoever asks.

        Raises:
            NotVectorizable: The reason.
        """
        raise NotVectorizable(self._reason)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # as libraries ask whether there is one
            raise AttributeError(name)
        self.refuse()

    __bool__ = __len__ = __iter__ = __getitem__ = __setitem__ = __delitem__ = __contains__ = refuse
    __eq__ = __hash__ = __float__ = __str__ = __lt__ = __le__ = __gt__ = __ge__ = refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = refuse
    __pow__ = __rpow__ = __matmul__ = __rmatmul__ = refuse

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, StandIn)).refuse()
