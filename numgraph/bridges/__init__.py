"""Libraries with an autodiff of their own: one module each, imported when the first array of it is met (see
arrays.FRAMEWORKS).

Each has ``LIBRARY``, an arrays.Library whose ``propagate`` carries a walk. Nothing else is imported from
outside.
"""
