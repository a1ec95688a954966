"""What is known of the licences of LLM-JP corpus v3, folder by folder; a folder below one of these inherits its line.

These lines are part of the content of an artifact: a changed one needs a new revision of the stage `acquire`.
"""

from __future__ import annotations

from typing import NamedTuple


class FolderLicence(NamedTuple):
    """`licence`: SPDX identifier or words; `attribution`: the line to show."""

    licence: str
    attribution: str


PUBLISHED = "in the LLM-JP corpus v3 by NII."


def _wikipedia(language: str) -> FolderLicence:
    # The terms of use of Wikipedia since June 2023: https://foundation.wikimedia.org/wiki/Policy:Terms_of_Use
    return FolderLicence(
        "CC-BY-SA-4.0", f"Text from {language} Wikipedia contributors, cleaned and published {PUBLISHED}"
    )


UNKNOWN = FolderLicence("unknown, see the project's page", f"Published {PUBLISHED}")
KNOWN = {
    "ja/ja_wiki": _wikipedia("Japanese"),
    "en/en_wiki": _wikipedia("English"),
    "zh/zh_wiki": _wikipedia("Chinese"),
    "ko/ko_wiki": _wikipedia("Korean"),
    # https://commoncrawl.org/terms-of-use
    "ja/ja_cc": FolderLicence(
        "Common Crawl terms of use", f"Text from Common Crawl, filtered and published {PUBLISHED}"
    ),
    # The cards of hpprc/llmjp-kaken and hpprc/llmjp-warp-html on Hugging Face, which name the project's page for it.
    "ja/kaken": FolderLicence(
        "CC-BY-4.0", f"Text from KAKEN (Grants-in-Aid for Scientific Research), published {PUBLISHED}"
    ),
    "ja/ja_warp_html": FolderLicence(
        "CC-BY-4.0", f"Text from WARP, the web archive of the National Diet Library of Japan, published {PUBLISHED}"
    ),
    "ja/ja_warp_pdf": FolderLicence(
        UNKNOWN.licence, f"Text from WARP, the web archive of the National Diet Library of Japan, published {PUBLISHED}"
    ),
    # The card of allenai/dolma on Hugging Face.
    "en/en_dolma": FolderLicence("ODC-BY-1.0", f"Text from Dolma by the Allen Institute for AI, published {PUBLISHED}"),
    # The card of bigcode/the-stack on Hugging Face.
    "code/code_stack": FolderLicence(
        "The Stack terms of use; each file under the licence of its repository",
        f"Code from The Stack by BigCode, published {PUBLISHED}",
    ),
}


def licence_of(folder: str) -> FolderLicence:
    """The line known for a folder of the corpus, or for the nearest folder above it, or UNKNOWN."""
    parts = folder.split("/")
    above = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((KNOWN[name] for name in above if name in KNOWN), UNKNOWN)
