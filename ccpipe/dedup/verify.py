"""Verification of candidate links: a shared band is a reason to look, no proof.

In: records of one range of keys, in the order of keys, then documents; the signatures. Out: links (document, representative).
The documents of a key are taken in their order. Each is compared with the key's representatives, at most `representatives` of
them: the earlier documents that were linked to nobody. It is linked to the first that is similar enough; like nobody, it becomes a
representative itself where there is room. So one key of thousands of unlike pages (a shared footer) falls into what is alike,
at a few comparisons per document, and the links do not depend on partitions or tasks: a key's documents are always together.

Similar enough: `verify`, the share of equal positions of the whole signatures; `verify_text`, the exact similarity of the texts,
read only where the estimate is within `verify_zone` of it. A pair with a document of the past is judged by its estimate alone.
Memory: half of `memory_mb` for signatures; they are read shard by shard, in the order of documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ccpipe.dedup import DedupConfig
from ccpipe.dedup.exact import Texts
from ccpipe.dedup.files import BadFile, open_signatures
from ccpipe.dedup.past import OURS, PAST_SHIFT
from ccpipe.kernels import kernel

ROW_MASK = np.uint64(0xFFFFFFFF)
UNDECIDED, SAME, OTHER = -1, 1, 0

MAX_KNOWN = 1 << 20
"""Pairs of texts whose verdict is remembered: they meet in several bands. About 150 bytes each."""


@kernel
def _verify(
    keys: np.ndarray,
    docs: np.ndarray,
    rows: np.ndarray,
    sigs: np.ndarray,
    rep_docs: np.ndarray,
    rep_sigs: np.ndarray,
    key: np.ndarray,
    state: np.ndarray,
    bounds: tuple[int, int],
    links: np.ndarray,
) -> bool:
    """Go on at record state[0], representative state[1] (whose verdict is state[2] where one was asked for); False: a verdict is asked for.

    key: of the record before. state: int64: record, representative, verdict, representatives there, links, rejected, without room, records
    of the key, keys of two documents or more. bounds: estimates, in positions, from which on a pair may be and surely is similar enough.
    """
    low, high = bounds
    while state[0] < len(keys):
        at = state[0]
        if keys[at] != key[0]:
            key[0] = keys[at]
            state[3] = state[7] = 0
        linked = False
        while state[1] < state[3] and not linked:
            rep, verdict = state[1], state[2]
            state[2] = UNDECIDED
            if verdict == UNDECIDED:
                equal = 0
                for i in range(sigs.shape[1]):
                    equal += sigs[rows[at], i] == rep_sigs[rep, i]
                if low <= equal < high:
                    return False
                verdict = SAME if equal >= high else OTHER
            linked = verdict == SAME
            if linked:
                links[state[4], 0], links[state[4], 1] = docs[at], rep_docs[rep]
                state[4] += 1
            state[1] += 1
        if not linked:
            state[5] += state[3] > 0
            if state[3] < len(rep_docs):
                rep_docs[state[3]] = docs[at]
                rep_sigs[state[3]] = sigs[rows[at]]
                state[3] += 1
            else:
                state[6] += 1
        state[7] += 1
        state[8] += state[7] == 2
        state[0], state[1] = at + 1, 0
    return True


@dataclass(frozen=True)
class Signed:
    """Signature files by shard: of ours (index 0) and of every index of the past."""

    files: Mapping[int, Sequence[Path]]

    def gather(self, docs: np.ndarray) -> np.ndarray:
        """Signatures of documents: uint64 or uint32, shape (n, n_hashes). docs: sorted, ids as between match and mark. Raises `BadFile`."""
        parts = [
            self._shard(int(part[0]), part) for part in np.split(docs, np.flatnonzero(np.diff(docs >> np.uint64(32))) + 1) if len(part)
        ]
        kinds = {f"{part.shape[1]} {part.dtype}" for part in parts}
        if len(kinds) > 1:
            raise BadFile(f"signatures of different kinds cannot be compared ({', '.join(sorted(kinds))}): rerun sig for the odd shards")
        return np.concatenate(parts)

    def _shard(self, document: int, docs: np.ndarray) -> np.ndarray:
        number = 0 if document & OURS else document >> PAST_SHIFT
        shard = (document & ((1 << PAST_SHIFT) - 1)) >> 32
        files = self.files[number]
        rows = (docs & ROW_MASK).astype(np.int64)
        if shard >= len(files):
            raise BadFile(f"document {document} is of shard {shard}, there are {len(files)} signature files: rerun dedup.route")
        sigs = open_signatures(files[shard])
        if rows[-1] >= sigs.rows:
            raise BadFile(f"{sigs.path} has {sigs.rows} signatures, row {rows[-1]} is wanted: the keys come from others, rerun dedup.route")
        return np.asarray(sigs.map()[rows])


class Verifier:
    """Links what is similar enough, of records that come block by block in the order of keys, then documents."""

    def __init__(self, config: DedupConfig, signed: Signed, texts: Texts | None) -> None:
        self.config, self.signed, self.texts = config, signed, texts
        self.memory = (config.memory_mb << 20) // 2
        self.known: dict[tuple[int, int], bool] = {}
        self.decided_by_text = 0
        self._last: np.uint64 | None = None
        self._state = np.zeros(9, dtype=np.int64)
        self._reps: tuple[np.ndarray, np.ndarray] | None = None
        self._key = np.zeros(1, dtype=np.uint64)

    def link(self, records: np.ndarray) -> np.ndarray:
        """(document, representative): uint64, shape (n, 2). records: uint64, shape (n, 2), key and document."""
        shared = _in_groups(records[:, 0], self._last)
        found = [np.empty((0, 2), np.uint64)]
        if shared.any():
            keys, docs = records[shared, 0], records[shared, 1]
            kind = self.signed.gather(docs[:1])
            step = max(1, self.memory // kind.nbytes)
            found += [self._link(keys[at : at + step], docs[at : at + step], kind) for at in range(0, len(keys), step)]
        if len(records):
            self._last = records[-1, 0]
        return np.concatenate(found)

    def told(self) -> dict[str, int]:
        """For the counts. `rejected_documents`: with a key's representatives, and like none of them; `beyond_representatives`: of
        these, those for which there was no more room; `decided_by_text`: pairs. Each counted once for every key."""
        rejected, beyond, shared = (int(self._state[i]) for i in (5, 6, 8))
        told = {"shared_keys": shared, "rejected_documents": rejected, "beyond_representatives": beyond}
        return told | ({"decided_by_text": self.decided_by_text} if self.texts else {})

    def _link(self, keys: np.ndarray, docs: np.ndarray, kind: np.ndarray) -> np.ndarray:
        state = self._state
        if self._reps is None:
            n = self.config.representatives
            self._reps = np.empty(n, dtype=np.uint64), np.empty((n, kind.shape[1]), dtype=kind.dtype)
            self._key = np.array([~keys[0]])
        here, rows = np.unique(docs, return_inverse=True)
        sigs = self.signed.gather(here)
        links = np.empty((len(docs), 2), np.uint64)
        bounds = estimate_bounds(self.config, kind.shape[1])
        state[[0, 1, 4]], state[2] = 0, UNDECIDED
        while not _verify(keys, docs, rows, sigs, *self._reps, self._key, state, bounds, links):
            at, rep = int(state[0]), int(state[1])
            estimate = float(np.mean(sigs[rows[at]] == self._reps[1][rep]))
            state[2] = self._look(int(docs[at]), int(self._reps[0][rep]), estimate)
            self.decided_by_text += 1
        return links[: state[4]]

    def _look(self, one: int, other: int, estimate: float) -> int:
        """Whether the texts of two documents are similar enough; where one is of the past, their estimate."""
        wanted = self.config.verify_text
        assert self.texts is not None and wanted is not None
        mask = OURS - 1
        if (one & mask) >> PAST_SHIFT or (other & mask) >> PAST_SHIFT:
            return SAME if estimate >= wanted else OTHER
        if (one, other) not in self.known:
            if len(self.known) >= MAX_KNOWN:
                self.known.clear()
            self.known[one, other] = self.texts.similarity(one & mask, other & mask) >= wanted
        return SAME if self.known[one, other] else OTHER


def estimate_bounds(config: DedupConfig, width: int) -> tuple[int, int]:
    """Equal positions of `width` from which on a pair may be similar enough, and from which on it is.

    >>> estimate_bounds(DedupConfig(verify=0.8), 128), estimate_bounds(DedupConfig(verify_text=0.8), 100)
    ((103, 103), (70, 90))
    """
    least = config.verify or 0.0
    if config.verify_text is None:
        return _positions(least, width), _positions(least, width)
    low = max(least, config.verify_text - config.verify_zone)
    return _positions(low, width), _positions(max(low, config.verify_text + config.verify_zone), width)


def _positions(share: float, width: int) -> int:
    return math.ceil(share * width - 1e-9)


def _in_groups(keys: np.ndarray, before: np.uint64 | None) -> np.ndarray:
    """Records that may share their key: bool, shape (n,). keys: sorted; before: the key of the record before the first.

    The last record may share it with what is still to come.
    """
    may = np.zeros(len(keys), dtype=bool)
    same = keys[1:] == keys[:-1]
    may[1:] |= same
    may[:-1] |= same
    may[-1:] = True
    may[:1] |= before is not None and keys[:1] == before
    return may
