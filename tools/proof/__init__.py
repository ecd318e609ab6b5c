"""Claims too big for tests: each is run at full size and leaves its figures in `docs/proof`."""
