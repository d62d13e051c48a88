"""The CPU as a target of the compiler: what it prints of a program, and the kernels that planning.py runs."""
