"""The network on cached features: temporal encoders, fusion, heads, prompts, and the estimator made of them."""
