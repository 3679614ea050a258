"""What a run says of itself, concluded from files: status, pace, causes of failures, efficiency."""
