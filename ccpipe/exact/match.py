"""same_url.match, same_text.match, paragraphs.match: equal keys of one range of all route files.

In: all `<family>.route`. Out: `<family>.links`, .npy, uint64, shape (n, 2): id, smallest id with the same key; sorted, each id once.
Memory: about `memory_mb`, as in `ccpipe.dedup.match`.
"""

from __future__ import annotations

from ccpipe.counts import Counts
from ccpipe.dedup.external import PairSorter
from ccpipe.dedup.files import BandFile, write_rows
from ccpipe.dedup.keys import key_range
from ccpipe.dedup.match import Linker, RangeReader
from ccpipe.exact import ExactConfig, ParagraphConfig, family
from ccpipe.stage import Inputs, Outputs, Stage, Unit


class Match(Stage):
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
        links = PairSorter(half, path.parent, unique=True)
        reader = RangeReader([BandFile(route) for route in inputs[f"{name}.route"]], half, path.parent)
        linker, counts = Linker(), Counts()
        for records in reader.blocks(*key_range(unit.index, partitions)):
            counts.keep(len(records))
            links.add(linker.link(records))
        counts.extra["shared_keys"] = linker.shared
        counts.extra["links"] = write_rows(path, 2, links.blocks())
        return counts


class ParagraphMatch(Match):
    class Config(ParagraphConfig):
        pass

    ignores = Match.ignores | {"key", "min_letters"}
