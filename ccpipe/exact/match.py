"""same_url.match, same_text.match, paragraphs.match: equal keys of one range of all route files.

In: all `<family>.route`. Out: `<family>.links`, .npy, uint64, shape (n, 2): id, smallest id with the same key; sorted, each id once.
Memory: about `memory_mb`; what does not fit is sorted on disk.
"""

from __future__ import annotations

from ccpipe.counts import Counts
from ccpipe.dedup.external import PairSorter
from ccpipe.dedup.files import BandFile, write_rows
from ccpipe.dedup.keys import key_range
from ccpipe.exact import ExactConfig, ParagraphConfig, family
from ccpipe.exact.links import FirstLinker
from ccpipe.stage import Inputs, Outputs, Stage, Unit

BLOCK_RECORDS = 1 << 16
"""Records read at once."""


class KeyMatch(Stage):
    class Config(ExactConfig):
        pass

    ignores = frozenset(("where", "scope", "group_shards"))

    def run(self, unit: Unit, inputs: Inputs, out: Outputs) -> Counts:
        name = family(self.name)
        partitions = self.config.partitions
        if partitions is None or unit.index >= partitions:
            raise ValueError(f"{self.name}: unit {unit.index} of partitions = {partitions}; the plan must give partitions = nodes x cores")
        path = out[f"{name}.links"]
        half = max((self.config.memory_mb << 20) // 2, 1)
        records, links = PairSorter(half, path.parent), PairSorter(half, path.parent)
        linker, counts = FirstLinker(), Counts()
        for route in inputs[f"{name}.route"]:
            for block in BandFile(route).read_blocks(*key_range(unit.index, partitions), BLOCK_RECORDS):
                records.add(block)
                counts.keep(len(block))
        for block in records.blocks():
            links.add(linker.link(block))
        counts.extra["shared_keys"] = linker.shared
        counts.extra["links"] = write_rows(path, 2, links.blocks())
        counts.extra["spilled_bytes"] = records.spilled_bytes + links.spilled_bytes
        return counts


class ParagraphMatch(KeyMatch):
    class Config(ParagraphConfig):
        pass

    ignores = KeyMatch.ignores | {"key", "min_letters"}
