"""How well a model folder knows held-out Japanese and our English sentences.

python held_out.py DEVICE FOLDER < texts.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))


def main(device: str, folder: str) -> None:
    """Prints one JSON object: loss, perplexity and bits per character of each language, in fp32."""
    from tasks.evaluate.control_text import CONTROL_TEXTS
    from tasks.evaluate.measuring import text_figures
    from tasks.evaluate.scoring import score_texts
    from tasks.models.loading import load_model, load_tokenizer

    model, tokenizer = load_model(Path(folder), "float32", device), load_tokenizer(Path(folder))
    texts = {"japanese": json.load(sys.stdin), "english": CONTROL_TEXTS}
    scores = {
        name: score_texts(model, tokenizer, documents, sequence_length=512, context_tokens=64, batch_tokens=65_536)
        for name, documents in texts.items()
    }
    print(json.dumps({name: text_figures(score) for name, score in scores.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
