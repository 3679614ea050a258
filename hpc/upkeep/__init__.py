"""Care of runs and sites: garbage, and the doctor."""
