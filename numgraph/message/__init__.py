"""Message passing: update_all, apply_edges and attend (passing), the operation behind them (propagate),
functions of rows (rowwise).
"""

from numgraph.message import carrying  # noqa: F401  (what EdgeMap.gather does)
from numgraph.message.passing import apply_edges, attend, log_sum_exp, update_all
from numgraph.message.readout import readout
from numgraph.message.relations import multi_update_all

__all__ = ["apply_edges", "attend", "log_sum_exp", "multi_update_all", "readout", "update_all"]
