"""The participant's side: feedback window, scanner pulses. Knows the loop by its wire alone."""
