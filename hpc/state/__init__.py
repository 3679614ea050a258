"""What is on disk about a run: plans, launches, claims, sentinels, manifests. Names and formats, no decisions."""
