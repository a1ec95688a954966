"""Laws of the packed samples: every token once an epoch, the same from wherever one starts."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_contracts.errors import DataError
from data_contracts.token_files import TokenFile
from tasks.training.packing import PackedDataset, steps_of_epochs

EOD = 0
lengths = st.lists(st.integers(min_value=1, max_value=30), min_size=1, max_size=40)
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def open_tokens(tmp_path, token_writer):
    """Documents of those lengths whose tokens are numbered from 1 on, each ending with EOD; all distinct but EOD."""

    def build(document_lengths):
        numbers = iter(range(1, 10_000))
        documents = [[next(numbers) for _ in range(length - 1)] + [EOD] for length in document_lengths]
        token_writer(tmp_path / "t", documents, 10_000)
        return TokenFile(tmp_path / "t")

    return build


@few
@given(lengths, st.integers(1, 17), st.integers(0, 5), st.integers(0, 3))
def test_every_token_but_the_stated_rest_is_predicted_once_an_epoch(open_tokens, sizes, sequence_length, seed, epoch):
    tokens = open_tokens(sizes)
    if tokens.num_tokens <= sequence_length:
        return
    data = PackedDataset(tokens, sequence_length, seed, EOD)
    samples = data.samples(epoch * data.samples_per_epoch, data.samples_per_epoch)
    predicted = Counter(samples[:, 1:].ravel().tolist())
    missed = Counter(tokens.tokens.tolist()) - predicted
    assert not predicted - Counter(tokens.tokens.tolist())
    assert missed.total() == data.tokens_left_over + 1 < sequence_length + 1
    assert data.tokens_per_epoch == predicted.total() == data.tokens_consumed(data.samples_per_epoch)
    assert data.tokens_per_epoch + data.tokens_left_over + 1 == tokens.num_tokens


@few
@given(lengths, st.integers(1, 17), st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_a_sample_depends_on_its_number_alone(open_tokens, sizes, sequence_length, numbers):
    tokens = open_tokens(sizes)
    if tokens.num_tokens <= sequence_length:
        return
    one, two = (PackedDataset(tokens, sequence_length, 3, EOD) for _ in range(2))
    forward = {number: one.sample(number) for number in sorted(numbers)}
    for number in reversed(numbers):
        assert np.array_equal(two.sample(number), forward[number])


def test_tokens_follow_each_other_as_in_their_documents(open_tokens):
    tokens = open_tokens([5, 9, 3, 12, 7, 20])
    data = PackedDataset(tokens, 8, 1, EOD)
    firsts = {int(document[0]) for document in tokens}
    for sample in data.samples(0, 3 * data.samples_per_epoch):
        for before, after in pairwise(sample.tolist()):
            # After an end of document comes the start of some document, inside one the next token.
            assert after in firsts | {EOD} if before == EOD else after in (before + 1, EOD)


def test_epochs_and_seeds_have_orders_of_their_own(open_tokens):
    tokens = open_tokens([9] * 40)
    data, other = PackedDataset(tokens, 8, 1, EOD), PackedDataset(tokens, 8, 2, EOD)
    epoch = data.samples_per_epoch
    assert not np.array_equal(data.samples(0, epoch), data.samples(epoch, epoch))
    assert not np.array_equal(data.samples(0, epoch), other.samples(0, epoch))


def test_the_order_of_a_seed_stays_what_it_is(open_tokens):
    data = PackedDataset(open_tokens([4, 6, 5]), 4, 1234, EOD)
    assert data.samples(0, 6).tolist() == [
        [1, 2, 3, 0, 4],
        [8, 0, 9, 10, 11],
        [4, 5, 6, 7, 8],
        [1, 2, 3, 0, 4],
        [4, 5, 6, 7, 8],
        [8, 0, 9, 10, 11],
    ]


def test_too_few_tokens_for_one_sample_are_refused(open_tokens):
    with pytest.raises(DataError, match="8 tokens, expected at least 9"):
        PackedDataset(open_tokens([8]), 8, 1, EOD)
    assert PackedDataset(open_tokens([9]), 8, 1, EOD).samples_per_epoch == 1


def test_a_document_without_its_end_token_is_refused(open_tokens):
    with pytest.raises(DataError, match="document 0 ends with token 0, expected the end-of-document token 7"):
        PackedDataset(open_tokens([5, 5]), 4, 1, 7)


def test_steps_of_epochs_never_see_less_than_asked():
    assert [steps_of_epochs(e, 100, 8) for e in (0.001, 1.0, 1.04, 2.0)] == [1, 13, 13, 25]
