"""The algebra: message expressions, the elementary functions, their derivatives, and what a walk is. No
kernel and no graph.

To import from outside: ``expr`` (nodes), ``elementary`` (functions), ``walk`` (outputs of walks), ``tracing``
and ``derivatives``."""
