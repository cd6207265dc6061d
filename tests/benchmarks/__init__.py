"""The benchmarks, with tiny sizes."""
