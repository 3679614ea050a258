"""What the four phases have in common besides their config: they say in the dry run what they will need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pyarrow as pa

from ccpipe.dedup import DedupConfig
from ccpipe.dedup.sizes import Sizes
from ccpipe.minhash import N_HASHES
from ccpipe.stage import Stage


class Phase(Stage):
    """`phase`: route, match, cluster or mark."""

    phase: ClassVar[str]

    config: DedupConfig

    _n_hashes: int = N_HASHES
    """Width of the signatures that the flow writes; known after `check_inputs`."""

    def check_inputs(self, types: Mapping[str, pa.DataType], writers: Mapping[str, Stage]) -> None:
        # a stage of somebody's own that signs may call its width otherwise; then `run` finds out
        if "sig" in writers:
            self._n_hashes = getattr(writers["sig"].config, "n_hashes", N_HASHES)
        self.config.banding(self._n_hashes)

    def predict(self, documents: int, shards: int, extra: Mapping[str, int]) -> list[str]:
        bands = self.config.banding(self._n_hashes).bands
        return Sizes(documents, shards, bands, self.config, extra.get("linked_documents")).explain(self.phase)
