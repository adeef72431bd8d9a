"""Pages that are one file each and ask nobody for anything: templates, styles, scripts and data put together."""
