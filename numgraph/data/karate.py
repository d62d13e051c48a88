"""Zachary's karate club: 34 members, 78 friendships, and the split of the club as labels.

W. W. Zachary, An Information Flow Model for Conflict and Fission in Small Groups, Journal of Anthropological
Research 33 (1977)."""

from __future__ import annotations

import numpy as np

from numgraph.data.record import Dataset, mask_of, undirected
from numgraph.errors import bad_value, shown

# Friends with a larger id, member by member.
_FRIENDS: dict[int, tuple[int, ...]] = {
    0: (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 17, 19, 21, 31),
    1: (2, 3, 7, 13, 17, 19, 21, 30),
    2: (3, 7, 8, 9, 13, 27, 28, 32),
    3: (7, 12, 13),
    4: (6, 10),
    5: (6, 10, 16),
    6: (16,),
    8: (30, 32, 33),
    9: (33,),
    13: (33,),
    14: (32, 33),
    15: (32, 33),
    18: (32, 33),
    19: (33,),
    20: (32, 33),
    22: (32, 33),
    23: (25, 27, 29, 32, 33),
    24: (25, 27, 31),
    25: (31,),
    26: (29, 33),
    27: (33,),
    28: (31, 33),
    29: (32, 33),
    30: (32, 33),
    31: (32, 33),
    32: (33,),
}
# The faction each member went with: 0 the instructor's (member 0), 1 the administrator's (member 33).
_FACTIONS = "0000000001000011001010111111111111"
# The division into four communities of the largest modularity, 0.4198 (Brandes et al., On Modularity
# Clustering, 2008).
_COMMUNITIES = "0000111022100022102020233323322322"


def load_karate(*, communities: int = 2) -> Dataset:
    """``communities=2``: the two factions; 4: the communities of the largest modularity.

    Features are the identity (a member is known by who it is). As in the GCN paper one member a class is
    labelled, here the one with most friends; every fourth of the others validates.
    """
    if communities not in (2, 4):
        raise bad_value("load karate", f"communities is {shown(communities)}", "choose 2 or 4")
    pairs = np.array([(member, friend) for member, friends in _FRIENDS.items() for friend in friends])
    graph = undirected(pairs[:, 0], pairs[:, 1], 34)
    labels = np.array([int(digit) for digit in (_FACTIONS if communities == 2 else _COMMUNITIES)])
    degrees = np.bincount(pairs.ravel(), minlength=34)
    train = [int(np.argmax(np.where(labels == label, degrees, -1))) for label in range(communities)]
    rest = np.setdiff1d(np.arange(34), train)
    return Dataset(
        name="karate",
        graph=graph,
        features=np.eye(34, dtype=np.float32),
        labels=labels,
        train_mask=mask_of(train, 34),
        val_mask=mask_of(rest[::4], 34),
        test_mask=mask_of(np.setdiff1d(rest, rest[::4]), 34),
        num_classes=communities,
    )
