"""What `fcnef twin` is asked about, and what it leaves."""
