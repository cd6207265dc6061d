"""`make gpu-check`: what holds on an accelerator, and how fast it is; see benchmarks/GPU.md."""
