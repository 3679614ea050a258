"""Binds hpc and ccpipe: one standalone entrypoint per stage, the stage table, the config, the command line."""
