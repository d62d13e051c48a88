"""Where arrays live: one object for each library of arrays, found by an array's type.

To import from outside: ``Library``, ``library_of``, ``foreign``, ``framework``, ``static_in_jax`` and
``NATIVE``. A new library is one class. One with an autodiff of its own (torch, JAX) stands in bridges/, as it
must see walks; its row is in ``lookup.FRAMEWORKS``."""

from numgraph.arrays.library import Library
from numgraph.arrays.lookup import FRAMEWORKS, NATIVE, foreign, framework, library_of, static_in_jax

__all__ = ["FRAMEWORKS", "NATIVE", "Library", "foreign", "framework", "library_of", "static_in_jax"]
