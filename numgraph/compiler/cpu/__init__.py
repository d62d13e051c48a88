"""The CPU as a target of the compiler: what it prints of a program, and how its kernels run over the rows of
a graph.
"""
