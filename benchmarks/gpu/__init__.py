"""`make gpu-check`: what holds on an accelerator, and how fast it is; docs/gpu-check.md."""
