"""Faces in any video: found, followed over time, and cut out as Aff-Wild2's crops are."""
