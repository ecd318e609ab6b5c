"""The offline side: people from many scanners to one person's plan."""
