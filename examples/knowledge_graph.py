"""Which facts are missing? A third of who is whose parent's parent or cousin is held out, and ranked among all people."""

import numpy as np

import numgraph as ng

rng = np.random.default_rng(0)
people, children = 121, 3  # a tree: who has the number i has the children 3i + 1, 3i + 2, 3i + 3
parent = [None, *[(i - 1) // children for i in range(1, people)]]
grand = [None if parent[i] is None else parent[parent[i]] for i in range(people)]
facts = [(i, "child of", parent[i]) for i in range(1, people)] + [(parent[i], "parent of", i) for i in range(1, people)]
facts += [(i, "sibling of", j) for i in range(1, people) for j in range(1, people) if i != j and parent[i] == parent[j]]
derived = [(i, "grandchild of", grand[i]) for i in range(people) if grand[i] is not None]
derived += [(j, "grandparent of", i) for i, _, j in derived]

names = sorted({relation for _, relation, _ in facts + derived})
ids = lambda rows: np.array([(h, names.index(r), t) for h, r, t in rows])
dealt = ids(derived)[rng.permutation(len(derived))]
val, test, rest = np.split(dealt, [len(dealt) // 6, len(dealt) // 3])
data = ng.data.Triples("family", np.concatenate([ids(facts), rest]), val, test, range(people), names)
print(data)

model = ng.nn.ComplEx(data.num_entities, data.num_relations, 64, reciprocal=True, rng=0)
history = ng.training.fit_triples(model, data, epochs=120, batch_size=256, penalty=0.003, patience=30)
measured = ng.training.rank_triples(model, data.test, data)
print(f"validation MRR {max(history.val_score):.3f} in epoch {history.best_epoch}")
print(f"test MRR {measured['mrr']:.3f}, first of {people} in {100 * measured['hits@1']:.0f} % (filtered)")
