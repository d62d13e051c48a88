"""What both targets make of a kernel's text: vectors and scalars in LLVM, and the arithmetic and functions on
them.
"""
