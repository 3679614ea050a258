"""From stages as somebody describes them to plans: units, keys, packing, requests, and the reason for each."""
