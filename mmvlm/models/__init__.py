"""Vision encoders, connectors, language models and what joins them."""
