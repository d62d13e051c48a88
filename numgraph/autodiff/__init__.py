"""The tape and its Tensors: they know no graphs and no formulas. To import from outside: ``tape`` and
``tensor``.
"""
