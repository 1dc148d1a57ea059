"""fncells: from fluorescence-microscopy pictures and annotations to datasets, trained networks, counts and figures."""

__version__ = "0.1.0"
