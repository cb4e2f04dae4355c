"""What the networks are computed with: PyTorch, or, on CPUs, graphs that OpenVINO compiled from the same weights."""
