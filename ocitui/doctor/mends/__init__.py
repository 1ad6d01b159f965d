"""What mends each family of findings: steps of a plan, made from what was seen."""
