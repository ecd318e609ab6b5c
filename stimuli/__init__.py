"""The participant's side: feedback window, scanner pulses, tasks. Knows the loop by its wire alone."""
