"""What the long commands have decided before they act: every check is made here, and nothing is written."""
