from __future__ import annotations

import pytest

from likewise.data.prompts import DEFAULT_TEMPLATES, check_lengths, check_templates, fill
from likewise.errors import UsageError


def test_every_class_has_every_template_in_order_and_braces_in_names_are_safe() -> None:
    assert fill(["a {}.", "{x} {}"], ["cat", "{0} set"]) == [["a cat.", "{x} cat"], ["a {0} set.", "{x} {0} set"]]
    assert 4 <= len(DEFAULT_TEMPLATES) <= 7
    assert len(set(DEFAULT_TEMPLATES)) == len(DEFAULT_TEMPLATES) == len(check_templates(DEFAULT_TEMPLATES))


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "a {c}."])
def test_a_template_without_one_place_for_the_name_is_refused(template: str) -> None:
    with pytest.raises(UsageError, match="template"):
        fill([template], ["cat"])


def test_only_prompts_over_the_limit_are_found_and_the_longest_is_first() -> None:
    prompts = [["short", "long"], ["exact", "longest"]]
    assert check_lengths(prompts, [[3, 77], [77, 77]], 77) == []
    (finding,) = check_lengths(prompts, [[3, 78], [77, 91]], 77)
    assert finding.code == "D11"
    assert finding.message.startswith("2 prompts exceed the 77 tokens")
    assert finding.message.index("«longest» (91)") < finding.message.index("«long» (78)")
    assert "exact" not in finding.message
