"""Personal data, replaced by placeholders."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import Field

from tasks.curation.filters.base import Edit

PLACEHOLDER = r"^[^0-9０-９@＠〒]*$"
"""A placeholder that looked like what it stands for would be masked again."""

MAX_ROUNDS = 4
"""A number that stands directly at an address is seen when the address is gone: `a@example.jp03-1234-5678`."""


class MaskPersonalData(Edit):
    """Puts a placeholder where an e-mail address, a phone number, a postal code or a My Number stands.

    E-mail: RFC 5321's sizes, a domain with a dot. Phone: Japanese numbers with dashes or parentheses in the places of
    the area code, of ten digits or eleven (050, 070, 080, 090), the free ones, and +81; without dashes only mobile
    ones, or behind a word such as TEL. Postal code: seven digits behind 〒 or 郵便番号. My Number: twelve digits with
    the right check digit, as one number or in groups of four. Full-width digits and dashes are as good. The ledger of
    edits holds how many of each kind, never what stood there. Only `text` is looked at: ids, titles and `meta` are
    not, and the raw corpus keeps everything. Put this step first: what an earlier one removes or takes out is in the
    ledgers as that step saw it. Default: all kinds, in no default cascade. Source: the number plan of the Ministry of
    Internal Affairs and Communications; for the check digit see `personal_data.is_my_number`.
    """

    filter: Literal["mask_personal_data"] = "mask_personal_data"
    email: bool = Field(default=True, description="Mask e-mail addresses.")
    phone: bool = Field(default=True, description="Mask Japanese phone numbers.")
    postal_code: bool = Field(default=True, description="Mask postal codes.")
    my_number: bool = Field(default=True, description="Mask individual numbers (My Number).")
    email_placeholder: str = Field(default="<EMAIL>", pattern=PLACEHOLDER, description="Stands for an address.")
    phone_placeholder: str = Field(default="<PHONE>", pattern=PLACEHOLDER, description="Stands for a phone number.")
    postal_code_placeholder: str = Field(
        default="<POSTAL_CODE>", pattern=PLACEHOLDER, description="Stands for a postal code; its 〒 stays."
    )
    my_number_placeholder: str = Field(default="<MY_NUMBER>", pattern=PLACEHOLDER, description="Stands for a number.")

    def edit(self, text: str) -> tuple[str, list[str]]:
        """The masked text, and the kind of each place that was masked."""
        from tasks.curation.personal_data import FINDERS, find

        kinds, masked = {kind for kind in FINDERS if getattr(self, kind)}, []
        for _ in range(MAX_ROUNDS):
            places = find(text, kinds)
            if not places:
                break
            parts, end = [], 0
            for place in places:
                parts += [text[end : place.start], getattr(self, f"{place.kind}_placeholder")]
                end = place.stop
            text = "".join([*parts, text[end:]])
            masked += [place.kind for place in places]
        return text, masked

    def record(self, pieces: list[str]) -> str:
        """How many places of each kind were masked: `email 2, phone 1`."""
        return ", ".join(f"{kind} {number}" for kind, number in sorted(Counter(pieces).items()))
