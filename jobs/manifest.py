"""`python -m jobs.manifest`: glob or list of WARC files -> the frozen, byte-balanced shards of a run.

Every other verb does this first where it has not been done; here it can be done and looked at alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hpc.state.manifest import ManifestError, freeze, refreeze
from hpc.words import size
from jobs.config import ConfigError, load_config


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.manifest", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("run.toml"), help="the run.toml (default: here)")
    parser.add_argument("--take-inputs", action="store_true", help="take in inputs that are new, changed or gone since the list was frozen")
    args = parser.parse_args()
    try:
        config = load_config(args.config)
        what = (config.run_dir, config.run.inputs, config.folder, int(config.run.shard_bytes))
        if args.take_inputs:
            print(f"taken in: {refreeze(*what)[1].text()}")
        manifest, notice = freeze(*what)
    except (ConfigError, ManifestError) as error:
        print(error, file=sys.stderr)
        return 2
    shards = [sum(file.bytes for file in shard) for shard in manifest.shards()]
    print(f"{config.run_dir / 'manifest.jsonl'}: {len(manifest.files)} files, {size(sum(shards))} in {len(shards)} shards")
    print(f"lightest shard {size(min(shards))}, heaviest {size(max(shards))}")
    if notice:
        print(f"note: {notice}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
