"""Damaged and hostile files: whatever is read ends in a result or in one line, in bounded time and memory."""
