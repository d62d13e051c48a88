"""What runs the package: threads, compilation, caches on disk, files written whole, interrupts. It knows no
arrays of the user's.
"""
