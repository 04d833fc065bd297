"""penstock keeps a language-model recommender fresh: behaviour in, a gated and fresher model out."""

__version__ = "0.1.0"
