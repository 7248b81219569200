"""What can be said of a schedule without training: a bound, its best peak, and what of training the weights keep."""

from lit_lrsched.theory.bound import ConvexBound, convex_bound, transfer
from lit_lrsched.theory.memory import UpdateMemory, update_memory
from lit_lrsched.theory.refined import refined

__all__ = ["ConvexBound", "UpdateMemory", "convex_bound", "refined", "transfer", "update_memory"]
