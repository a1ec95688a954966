"""Connected components of documents by union-find, and how a big bucket of candidates is connected."""

from __future__ import annotations

import numba
import numpy as np

from tasks.curation.minhash import GramSets, jaccard


@numba.njit(cache=True, nogil=True)
def _root(parents, document):
    while parents[document] != document:
        parents[document] = parents[parents[document]]
        document = parents[document]
    return document


@numba.njit(cache=True, nogil=True)
def roots_of(parents, documents):
    """Root of each of the documents in the forest `parents`, which is shortened on the way."""
    result = np.empty(len(documents), dtype=np.int64)
    for index in range(len(documents)):
        result[index] = _root(parents, documents[index])
    return result


@numba.njit(cache=True, nogil=True)
def unite_all(parents, first, second):
    """Joins the components of both ends of each pair, in place."""
    for index in range(len(first)):
        a, b = _root(parents, first[index]), _root(parents, second[index])
        parents[max(a, b)] = min(a, b)


@numba.njit(cache=True, nogil=True)
def first_ranking(parents, rank):
    """For each document the first-ranking one of its component."""
    best = np.full(len(parents), -1)
    for document in range(len(parents)):
        root = _root(parents, document)
        if best[root] < 0 or rank[document] < rank[best[root]]:
            best[root] = document
    result = np.empty(len(parents), dtype=np.int64)
    for document in range(len(parents)):
        result[document] = best[_root(parents, document)]
    return result


@numba.njit(cache=True, nogil=True)
def keep_best(partner, similarity, rank, first, second, scores):
    """For each document the other end and the score of its best edge, in place; of equal ones, the first-ranking."""
    for index in range(len(scores)):
        score = scores[index]
        for one, other in ((first[index], second[index]), (second[index], first[index])):
            best = partner[one]
            if score > similarity[one] or (score == similarity[one] and (best < 0 or rank[other] < rank[best])):
                partner[one], similarity[one] = other, score


def connect(
    sets: GramSets, bucket: np.ndarray, split: int, parents: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Edges that connect what can be connected within a bucket, their similarities, and how many pairs were compared.

    bucket: (documents,) those of `sets`; split: 0 to compare all pairs, else only those of one of the first `split`
    documents with one of the others; parents: the union-find forest, updated. A pair is compared only if its ends are
    not connected yet and if it can be similar enough: two sets of similarity t share one of their rarest n-grams,
    |set| - ceil(t |set|) + 1 of each (prefix filter: Chaudhuri, Ganti, Kaushik 2006), and from the first they share
    there are still enough to come in both (positional filter: Xiao, Wang, Lin, Yu 2008). What is left out never changes
    an edge.
    """
    values, places, counts = np.unique(sets.values, return_inverse=True, return_counts=True)
    order = np.argsort(counts, kind="stable")
    rarity = np.empty(len(values), dtype=np.int64)
    rarity[order] = np.arange(len(values))
    tokens = rarity[places]
    num_single = int(np.count_nonzero(counts == 1))
    posting_bounds = np.concatenate((np.zeros(num_single + 1, np.int64), np.cumsum(counts[order][num_single:])))
    return _connect(*sets, tokens, num_single, posting_bounds, bucket, split, parents, threshold)


@numba.njit(cache=True, nogil=True)
def _connect(values, bounds, tokens, num_single, posting_bounds, bucket, split, parents, threshold):
    """tokens: (n-grams,) number of each n-gram by rarity; those below num_single stand in one set and meet no other."""
    # Every union joins two components, so a bucket of k documents has at most k - 1 edges.
    pairs = np.empty((len(bucket), 2), dtype=np.int64)
    scores = np.empty(len(bucket), dtype=np.float64)
    found, compared = 0, 0
    # Documents that have a token in their prefix, and its place there.
    postings = np.empty(posting_bounds[-1], dtype=np.int64)
    seats = np.empty(posting_bounds[-1], dtype=np.int64)
    filled = np.zeros(len(posting_bounds) - 1, dtype=np.int64)
    uniform = np.ones(len(posting_bounds) - 1, dtype=np.bool_)
    longest = 0
    for document in range(len(bucket)):
        longest = max(longest, bounds[document + 1] - bounds[document])
    lists, heads = np.empty(longest, dtype=np.int64), np.empty(longest, dtype=np.int64)
    own_seats = np.empty(longest, dtype=np.int64)
    for second in range(len(bucket)):
        start, stop = bounds[second], bounds[second + 1]
        size = stop - start
        # The margin keeps a product that rounds up from shortening the prefix.
        prefix = np.sort(tokens[start:stop])[: size - np.int64(np.ceil(threshold * size - 1e-6)) + 1]
        live = 0
        if second >= split:
            for seat in range(len(prefix)):
                token = prefix[seat]
                if token >= num_single and filled[token] > 0:
                    lists[live], heads[live], own_seats[live] = token, posting_bounds[token], seat
                    live += 1
        root = _root(parents, bucket[second])
        while live:
            nearest, still = len(bucket), 0
            for index in range(live):
                token, head = lists[index], heads[index]
                begin = posting_bounds[token]
                end = begin + filled[token]
                # All of a list that is known to be one component is passed over at once.
                if uniform[token] and _root(parents, bucket[postings[begin]]) == root:
                    continue
                while head < end and _root(parents, bucket[postings[head]]) == root:
                    head += 1
                if head < end:
                    lists[still], heads[still], own_seats[still] = token, head, own_seats[index]
                    still += 1
                    nearest = min(nearest, postings[head])
            live = still
            if not live:
                break
            common_at_most = 0
            for index in range(live):
                head = heads[index]
                if postings[head] == nearest:
                    if not common_at_most:  # lists go from the rarest token on, so this is the first they share
                        left = bounds[nearest + 1] - bounds[nearest] - seats[head]
                        common_at_most = min(size - own_seats[index], left)
                    heads[index] += 1
            both = size + bounds[nearest + 1] - bounds[nearest]
            if common_at_most < threshold / (1 + threshold) * both - 1e-6:
                continue
            compared += 1
            score = jaccard(values, bounds, nearest, second, threshold)
            if score >= threshold:
                other = _root(parents, bucket[nearest])
                parents[max(root, other)] = min(root, other)
                root = min(root, other)
                pairs[found, 0], pairs[found, 1] = bucket[nearest], bucket[second]
                scores[found] = score
                found += 1
        if split and second >= split:
            continue
        for seat in range(len(prefix)):
            token = prefix[seat]
            if token >= num_single:
                begin = posting_bounds[token]
                postings[begin + filled[token]], seats[begin + filled[token]] = second, seat
                filled[token] += 1
                if _root(parents, bucket[postings[begin]]) != root:
                    uniform[token] = False
    return pairs[:found], scores[:found], compared
