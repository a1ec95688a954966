"""What the smallest real model of the tests is made from."""

from tasks.models.config import TinyConfig

TEXTS = [
    "富士山は日本で一番高い山である。標高は三七七六メートルで、静岡県と山梨県にまたがる。",
    "It is the highest one.",
]
MICRO = TinyConfig(
    vocabulary_size=320,
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    num_key_value_heads=1,
    intermediate_size=48,
    max_position_embeddings=128,
)
