"""Plane geometry of outlines, without files: crossings, holes and parts, pixel edges, run lengths."""

from fncells.outlines.edges import edge_polygons, filled, joined
from fncells.outlines.intersections import crossings
from fncells.outlines.roles import ring_roles
from fncells.outlines.runs import compressed_runs, encoded_regions, region_of_runs, runs_in, runs_of_regions

__all__ = [
    "compressed_runs",
    "crossings",
    "edge_polygons",
    "encoded_regions",
    "filled",
    "joined",
    "region_of_runs",
    "ring_roles",
    "runs_in",
    "runs_of_regions",
]
