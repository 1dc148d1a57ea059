"""How fast fncells is: against what else does the job, and against the least that any way of doing it must cost.

``make bench``, or ``python -m benchmarks [NAME …]`` for some of them. Every ratio comes from one run, its tasks taking
turns; times depend on the machine and stand beside for orientation alone.
"""
