"""The ground: durable files, exclusive publishing, private folders, and what the filesystem under them can do."""
