"""How fast, in how much memory and how exactly each way of estimating works on this machine."""
