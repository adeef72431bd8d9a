"""The feature store: embeddings and labels of a data set as a Zarr v3 group (numpy and zarr only, no torch)."""

from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.features import AudioFeatures, ImageFeatures, StoredLabels

__all__ = ["AudioFeatures", "FeatureStore", "ImageFeatures", "StoredLabels"]
