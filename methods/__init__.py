"""Methods, one file (or package) each, found by ``bench.registry``."""
