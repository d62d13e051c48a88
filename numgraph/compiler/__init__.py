"""The kernel compiler: index notation → schedule → program → verify → target.

``index`` says what every output of a walk is at index variables, ``schedule`` how its variables become loops and lanes, ``program`` holds
the records that ``build`` makes of both, ``verify`` proves of every program that it stays inside its arrays and stores each result once,
and a target (a class as ``target`` has it; ``cpu/``, ``cuda/``) prints it. Nothing but a target knows of text, and targets do not know of
each other. ``driver`` is the loop above them. From outside, ``cpu.kernel`` and ``cuda.execute`` are called.
"""
