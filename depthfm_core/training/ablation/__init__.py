"""The paper's ablations, small: `arms` says what is compared, `run` runs it, `report` writes table and plot."""
