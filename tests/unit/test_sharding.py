import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.config import Config
from polyprag.config.checks import validate
from polyprag.config.sharding import NOTHING, WHOLE, Shard
from polyprag.errors import ConfigError


@given(items=st.lists(st.integers()), count=st.integers(1, 9))
def test_shards_have_everything_once_in_like_shares(items, count):
    shares = [Shard(index, count).own(items) for index in range(count)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert sorted(item for share in shares for item in share) == sorted(items)


def test_the_whole_and_nothing_of_it():
    assert Shard.of("") == WHOLE
    assert WHOLE.own("abc") == ["a", "b", "c"]
    assert NOTHING.own("abc") == []
    assert not WHOLE.is_part
    assert not NOTHING.is_part


@given(count=st.integers(1, 999), index=st.integers(0, 998))
def test_a_shard_is_read_as_it_is_written(count, index):
    shard = Shard(index % count, count)
    assert Shard.of(str(shard)) == shard


@pytest.mark.parametrize("text", ["1", "4/4", "0/0", "-1/4", "1/", "/4", "a/b", "0/4 ", "0/1234567"])
def test_anything_else_is_refused_with_the_configuration(text):
    config = Config()
    config.run.shard = text
    with pytest.raises(ConfigError, match=r"^run\.shard is '.*', but must be a number from 0 and of how many, such as"):
        validate(config)
