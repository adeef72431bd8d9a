"""Sharing a store: as one zip or HDF5 file, merged with others, cut down, compared.

Published groups are copied as they are, files and metadata byte for byte, so that every digest stays what it was.
"""
