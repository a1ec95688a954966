"""The peer of filter_cascade.py: the same filters as a NeMo Curator 1.4 pipeline on its RayData executor.

    python curator_filters.py INPUT_FOLDER_OF_PARQUET OUTPUT_FOLDER LID_MODEL NUM_CPUS

Language identification and repeated lines are Curator's own filters; the others are written as its users write them,
one document at a time in Python, to the same definitions as ours.
"""

import sys
import unicodedata

import ray
from nemo_curator.backends.ray_data import RayDataExecutor
from nemo_curator.pipeline import Pipeline
from nemo_curator.stages.text.filters import DocumentFilter, ScoreFilter
from nemo_curator.stages.text.filters.fasttext import FastTextLangId
from nemo_curator.stages.text.filters.heuristic.repetition import RepeatedLinesByCharFilter
from nemo_curator.stages.text.io.reader import ParquetReader
from nemo_curator.stages.text.io.writer import ParquetWriter

EXTRA_SYMBOLS = set("#*@\\※†‡•\u200d\ufe0e\ufe0f\u20e3")
PROSE_SYMBOLS = set("\uff5e\u309b\u309c")


class Characters(DocumentFilter):
    def score_document(self, text):
        return float(len(text))

    def keep_document(self, score):
        return score >= 100


class Hiragana(DocumentFilter):
    def score_document(self, text):
        visible = "".join(text.split())
        return sum("\u3040" <= c <= "\u309f" for c in visible) / len(visible) if visible else 0.0

    def keep_document(self, score):
        return score >= 0.05


class Symbols(DocumentFilter):
    def score_document(self, text):
        visible = "".join(text.split())
        return sum(map(self.is_symbol, visible)) / len(visible) if visible else 0.0

    @staticmethod
    def is_symbol(c):
        if c in PROSE_SYMBOLS or "\u3040" <= c <= "\u309f":
            return False
        category = unicodedata.category(c)
        return category[0] == "S" or category in ("Co", "Cn") or c in EXTRA_SYMBOLS

    def keep_document(self, score):
        return score <= 0.2


class RepeatedNgrams(DocumentFilter):
    def score_document(self, text):
        visible, total, repeated = "".join(text.split()), 0, 0
        for start in range(0, len(visible), 4096):
            window = visible[start : start + 4096]
            grams = [window[i : i + 10] for i in range(len(window) - 9)]
            total += len(grams)
            repeated += len(grams) - len(set(grams))
        return repeated / total if total else 0.0

    def keep_document(self, score):
        return score <= 0.5


def main(source, target, model, num_cpus):
    ray.init(num_cpus=int(num_cpus), include_dashboard=False, log_to_driver=False)
    filters = [
        Characters(),
        Symbols(),
        FastTextLangId(model_path=model, min_langid_score=0.8, lang="ja"),
        Hiragana(),
        RepeatedNgrams(),
        RepeatedLinesByCharFilter(max_repeated_lines_char_ratio=0.7),
    ]
    pipeline = Pipeline(name="filters")
    pipeline.add_stage(ParquetReader(file_paths=source, files_per_partition=1))
    for one in filters:
        pipeline.add_stage(ScoreFilter(one, text_field="text"))
    pipeline.add_stage(ParquetWriter(path=target))
    pipeline.run(RayDataExecutor())
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
