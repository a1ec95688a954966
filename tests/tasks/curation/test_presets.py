"""Each preset is a whole filter config that a recipe can name."""

import pytest
from pydantic import ValidationError

from flows.configuration import load_config
from tasks.curation.config import FilterConfig
from tasks.curation.presets import PRESETS
from tasks.runtime import identity


@pytest.mark.parametrize("name", list(PRESETS))
def test_named_in_a_recipe_it_replaces_the_whole_section(name) -> None:
    filters = load_config("workshop-qwen25-0.5b", None, (f"filters.preset={name}",)).filters
    expected = PRESETS[name]()
    assert (filters.cascade, filters.normalization) == (expected.cascade, expected.normalization)


def test_what_stands_beside_the_name_is_kept() -> None:
    given = FilterConfig(cascade=()).model_dump(mode="json") | {"preset": "web"}
    assert FilterConfig.model_validate(given).cascade == ()


def test_name_is_no_identity_but_its_cascade_is() -> None:
    named = FilterConfig.model_validate({"preset": "web"})
    assert identity(named) == identity(PRESETS["web"]())
    assert identity(named) != identity(FilterConfig())


def test_masks_behind_another_step_are_refused() -> None:
    cascade = [{"filter": "length"}, {"filter": "mask_personal_data"}]
    with pytest.raises(ValidationError, match="whose ledger would hold what it masks"):
        FilterConfig.model_validate({"cascade": cascade})
    assert FilterConfig.model_validate({"cascade": cascade[::-1]})
